package oci

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// retryPolicy says how often and how fast to try again.
type retryPolicy struct {
	attempts int           // in a row without progress
	first    time.Duration // before the second attempt; doubles from there
	max      time.Duration
	stall    time.Duration // a transfer without a byte for so long has failed
}

var defaultRetry = retryPolicy{attempts: 5, first: time.Second, max: 15 * time.Second, stall: time.Minute}

// wait sleeps before the next attempt; failed is how many there were.
func (p retryPolicy) wait(ctx context.Context, failed int) error {
	pause := min(p.first<<min(failed-1, 20), p.max)
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// retry calls f until it succeeds, fails for good, or has failed too often.
func retry[T any](ctx context.Context, p retryPolicy, log *slog.Logger, f func() (T, error)) (T, error) {
	for failed := 1; ; failed++ {
		v, err := f()
		if err == nil || failed >= p.attempts || !temporary(err) || ctx.Err() != nil {
			return v, err
		}
		log.Info("try a request to the registry again", "failed", failed, "err", err)
		if err := p.wait(ctx, failed); err != nil {
			return v, err
		}
	}
}

// temporary reports whether trying again may help.
func temporary(err error) bool {
	var te *transport.Error
	var dns *net.DNSError
	var op *net.OpError
	var ue *url.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.As(err, &te):
		return te.Temporary()
	case errors.As(err, &dns):
		return dns.IsTemporary || dns.IsTimeout
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errStalled), errors.Is(err, syscall.ECONNRESET):
		return true
	case errors.As(err, &op):
		return true
	case errors.As(err, &ue):
		// The connection ended before the answer.
		return ue.Timeout() || errors.Is(ue.Err, io.EOF)
	}
	return false
}
