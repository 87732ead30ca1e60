package download

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
)

// Peek passes the file at rawURL to read from its start, for as long as read
// wants to go on, and keeps nothing of it. After a dropped connection it begins
// anew with another call of read. Errors are those of File and of read.
func Peek(ctx context.Context, rawURL string, o Options, read func(io.Reader) error) error {
	u, err := parse(rawURL)
	if err != nil {
		return err
	}
	s := newSource(u, o)
	err = s.retry.Do(ctx, temporary, func(int, error) {}, func() error {
		return s.retry.Attempt(ctx, func(ctx context.Context, alive func()) error { return s.peek(ctx, alive, read) })
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return s.explainPeek(ctx, err)
}

// peek is one attempt.
func (s *source) peek(ctx context.Context, alive func(), read func(io.Reader) error) error {
	req, err := s.newRequest(ctx, 0)
	if err != nil {
		return err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return newStatusError(res)
	}
	return read(&livingReader{r: res.Body, alive: alive})
}

// explainPeek leaves the errors of read as they are.
func (s *source) explainPeek(ctx context.Context, err error) error {
	var status *statusError
	var ue *url.Error
	if errors.As(err, &status) || errors.As(err, &ue) || temporary(err) {
		return s.explain(ctx, err, 0)
	}
	return err
}

// livingReader tells whenever something came.
type livingReader struct {
	r     io.Reader
	alive func()
}

func (r *livingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 {
		r.alive()
	}
	return n, err
}
