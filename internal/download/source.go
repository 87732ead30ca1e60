package download

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"

	"banger/internal/api"
	"banger/internal/transfer"
	"banger/internal/weburl"
)

// source is where one file is fetched from.
type source struct {
	Options
	url    *url.URL
	client *http.Client
	retry  Retry
}

func newSource(u *url.URL, o Options) *source {
	s := &source{Options: o, url: u, retry: transfer.DefaultRetry}
	if o.Retry != nil {
		s.retry = *o.Retry
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	s.client = weburl.Client(o.Client)
	return s
}

// address is the URL for messages.
func (s *source) address() string { return weburl.Redact(s.url.String()) }

func (s *source) progress(done, total int64) {
	if s.Progress != nil {
		s.Progress(done, total)
	}
}

// download fills f, which may hold the start of the file from an earlier time,
// and checks the result.
func (s *source) download(ctx context.Context, f *os.File) error {
	from, err := readOrigin(f)
	if err != nil {
		return err
	}
	if from.URL != s.url.String() {
		from = origin{}
	}
	t := transfer.Transfer{
		File: f, Worthless: s.SHA256 == "" && from.Validator == "",
		Get: func(ctx context.Context, have int64) (transfer.Part, error) {
			return s.get(ctx, f, &from, have)
		},
		Temporary: temporary, Progress: s.progress, Retry: s.retry, Log: s.Log, Name: slog.String("url", s.address()),
		SHA256: s.SHA256, Wrong: s.wrong, Size: -1, Max: s.MaxBytes, TooLong: s.tooLong,
	}
	err = t.Run(ctx)
	if err != nil {
		return s.explain(ctx, err, t.Have())
	}
	return nil
}

// get asks for what comes after the bytes that are there, of the version of the
// file that from identifies.
func (s *source) get(ctx context.Context, f *os.File, from *origin, have int64) (transfer.Part, error) {
	req, err := s.newRequest(ctx, have)
	if err != nil {
		return transfer.Part{}, err
	}
	if have > 0 && from.Validator != "" {
		req.Header.Set("If-Range", from.Validator)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return transfer.Part{}, weburl.Error(err) // it is logged
	}
	part, ok, err := transfer.Read(res, have)
	if err == nil && !ok {
		err = newStatusError(res)
	}
	if err != nil {
		res.Body.Close()
		return transfer.Part{}, err
	}
	part.Begin = func() error {
		*from = origin{URL: s.url.String(), Validator: validator(res.Header)}
		return writeOrigin(f, *from)
	}
	return part, nil
}

func (s *source) newRequest(ctx context.Context, have int64) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("User-Agent", "banger")
	transfer.Ask(req, have)
	return req, nil
}

// validator returns what identifies this version of a file, for If-Range; ""
// if nothing does. Weak entity tags don't.
func validator(h http.Header) string {
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	return h.Get("Last-Modified")
}

func (s *source) tooLong() error {
	return &uselessError{api.Errorf(api.CodeInvalid, "%s is longer than the %d MiB that are allowed for it", s.address(), s.MaxBytes>>20)}
}

func (s *source) wrong(got string) error {
	return &uselessError{api.Errorf(api.CodeInvalid, "%s is not the file that is expected: its sha256 is %s instead of %s",
		s.address(), got, s.SHA256).WithHint("it was changed at its source or damaged on its way; nothing of it was used")}
}

// explain makes an error of fetching one for the user. have is how many bytes
// there are for the next time.
func (s *source) explain(ctx context.Context, err error, have int64) error {
	var known *api.Error
	var disk *os.PathError
	if ctx.Err() != nil || errors.As(err, &known) || errors.As(err, &disk) {
		return err
	}
	var status *statusError
	if errors.As(err, &status) && (status.code == http.StatusNotFound || status.code == http.StatusGone) {
		return api.Errorf(api.CodeNotFound, "there is nothing at %s: %v", s.address(), status)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // without the address once more
	}
	failed := api.Errorf(api.CodeHost, "download %s: %v", s.address(), err)
	if status != nil && !temporary(status) {
		return failed
	}
	hint := []string{"check the network and the address"}
	if have > 0 {
		hint = append(hint, "the next attempt goes on where this one stopped")
	}
	return failed.WithHint("%s", strings.Join(hint, "; "))
}
