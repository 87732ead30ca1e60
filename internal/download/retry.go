package download

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"banger/internal/transfer"
)

// Retry says how often and how fast to try again.
type Retry = transfer.Retry

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

// RetryAfter makes it a transfer.LaterError.
func (e *statusError) RetryAfter() time.Duration { return e.retryAfter }

// temporary reports whether trying again may help.
func temporary(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.code >= 500 && status.code != http.StatusNotImplemented ||
			status.code == http.StatusTooManyRequests || status.code == http.StatusRequestTimeout
	}
	return transfer.Temporary(err)
}
