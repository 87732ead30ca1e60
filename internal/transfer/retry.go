package transfer

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"syscall"
	"time"

	"banger/internal/guard"
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

// ErrStalled means that a transfer stood still.
var ErrStalled = errors.New("the server stopped sending")

// LaterError is an error of a server that asks for a pause.
type LaterError interface {
	error
	RetryAfter() time.Duration // 0: it doesn't ask
}

// Do calls f until it succeeds, fails for good, or has failed too often. It says
// so before it tries again.
func (r Retry) Do(ctx context.Context, temporary func(error) bool, again func(failed int, err error), f func() error) error {
	for failed := 1; ; failed++ {
		err := f()
		if err == nil || failed >= r.Attempts || ctx.Err() != nil || !temporary(err) {
			return err
		}
		again(failed, err)
		if err := r.wait(ctx, failed, err); err != nil {
			return err
		}
	}
}

// Attempt calls f, which calls alive whenever something comes, and ends it with
// ErrStalled when nothing does.
func (r Retry) Attempt(ctx context.Context, f func(ctx context.Context, alive func()) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(r.Stall, guard.Func("notice a download that stands still", func() { cancel(ErrStalled) }))
	defer stalled.Stop()
	err := f(ctx, func() { stalled.Reset(r.Stall) })
	if err != nil && errors.Is(context.Cause(ctx), ErrStalled) {
		return ErrStalled
	}
	return err
}

// wait sleeps before the next attempt; failed is how many there were, and err
// how the last one ended.
func (r Retry) wait(ctx context.Context, failed int, err error) error {
	pause := min(r.First<<min(failed-1, 20), r.Max)
	var later LaterError
	if errors.As(err, &later) {
		pause = max(pause, min(later.RetryAfter(), r.Max))
	}
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Temporary reports whether trying again may help, for what isn't an answer of
// the server's.
func Temporary(err error) bool {
	var dns *net.DNSError
	var op *net.OpError
	var ue *url.Error
	switch {
	case errors.Is(err, ErrStalled):
		return true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
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
