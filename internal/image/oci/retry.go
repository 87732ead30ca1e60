package oci

import (
	"context"
	"errors"
	"log/slog"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"banger/internal/transfer"
)

// retry calls f until it succeeds, fails for good, or has failed too often.
func retry[T any](ctx context.Context, policy transfer.Retry, log *slog.Logger, f func() (T, error)) (result T, err error) {
	again := func(failed int, err error) {
		log.Info("try a request to the registry again", "failed", failed, "err", err)
	}
	err = policy.Do(ctx, temporary, again, func() error {
		var err error
		result, err = f()
		return err
	})
	return result, err
}

// temporary reports whether trying again may help.
func temporary(err error) bool {
	var te *transport.Error
	if errors.As(err, &te) {
		return te.Temporary()
	}
	return transfer.Temporary(err)
}
