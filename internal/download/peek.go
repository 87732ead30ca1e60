package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"banger/internal/guard"
)

// Peek passes the file at rawURL to read from its start, for as long as read
// wants to go on, and keeps nothing of it. After a dropped connection it begins
// anew with another call of read. Errors are those of File and of read.
func Peek(ctx context.Context, rawURL string, o Options, read func(io.Reader) error) error {
	u, err := parse(rawURL)
	if err != nil {
		return err
	}
	t := newTransfer(u, o)
	for failed := 1; ; failed++ {
		err := t.peek(ctx, read)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !temporary(err) || failed >= t.retry.Attempts {
			return t.explainPeek(ctx, err)
		}
		if err := t.retry.wait(ctx, failed, err); err != nil {
			return err
		}
	}
}

// peek is one attempt.
func (t *transfer) peek(ctx context.Context, read func(io.Reader) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(t.retry.Stall, guard.Func("notice a download that stands still", func() { cancel(errStalled) }))
	defer stalled.Stop()
	req, err := t.newRequest(ctx)
	if err != nil {
		return err
	}
	res, err := t.client.Do(req)
	if err == nil {
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return newStatusError(res)
		}
		err = read(&livingReader{r: res.Body, alive: func() { stalled.Reset(t.retry.Stall) }})
	}
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// explainPeek leaves the errors of read as they are.
func (t *transfer) explainPeek(ctx context.Context, err error) error {
	var status *statusError
	var ue *url.Error
	if errors.As(err, &status) || errors.As(err, &ue) || temporary(err) {
		return t.explain(ctx, err)
	}
	return err
}

// newRequest asks for the file as it is: parts and sums are not of a
// compressed form.
func (t *transfer) newRequest(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("User-Agent", "banger")
	req.Header.Set("Accept-Encoding", "identity")
	return req, nil
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
