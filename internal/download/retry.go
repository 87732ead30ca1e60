package download

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// Retry says how often and how fast to try again.
type Retry struct {
	Attempts int           // in a row, from the last one that got further than all before it
	First    time.Duration // pause before the second attempt; doubles from there
	Max      time.Duration // longest pause
	Stall    time.Duration // an attempt without a byte for so long has failed
}

// DefaultRetry gives up after about half a minute without any answer.
var DefaultRetry = Retry{Attempts: 5, First: time.Second, Max: 15 * time.Second, Stall: time.Minute}

// errStalled means that a transfer stood still.
var errStalled = errors.New("the server stopped sending")

// wait sleeps before the next attempt; failed is how many there were, and err
// how the last one ended.
func (r Retry) wait(ctx context.Context, failed int, err error) error {
	pause := min(r.First<<min(failed-1, 20), r.Max)
	var status *statusError
	if errors.As(err, &status) {
		pause = max(pause, min(status.retryAfter, r.Max))
	}
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// statusError is an answer without the file.
type statusError struct {
	code       int
	status     string        // e.g. "503 Service Unavailable"
	retryAfter time.Duration // as the server asks; 0 if it doesn't
}

func newStatusError(res *http.Response) *statusError {
	e := &statusError{code: res.StatusCode, status: res.Status}
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.retryAfter = time.Duration(seconds) * time.Second
	}
	return e
}

func (e *statusError) Error() string { return "the server answered " + e.status }

// temporary reports whether trying again may help.
func temporary(err error) bool {
	var status *statusError
	var dns *net.DNSError
	var op *net.OpError
	var ue *url.Error
	switch {
	case errors.Is(err, errStalled):
		return true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.As(err, &status):
		return status.code >= 500 && status.code != http.StatusNotImplemented ||
			status.code == http.StatusTooManyRequests || status.code == http.StatusRequestTimeout
	case errors.As(err, &dns):
		return dns.IsTemporary || dns.IsTimeout
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return true
	case errors.As(err, &op):
		return true
	case errors.As(err, &ue):
		// The connection ended before the answer.
		return ue.Timeout() || errors.Is(ue.Err, io.EOF)
	}
	return false
}
