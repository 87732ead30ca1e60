package oci

import (
	"context"
	"log/slog"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/api"
	"banger/internal/transfer"
)

// download fills f, which may hold the start of the blob from an earlier time,
// and checks the result. It flushes nothing. A wrong digest leaves f empty;
// after any other error f holds what came so far.
func (r *registry) download(ctx context.Context, desc v1.Descriptor, f *os.File, progress func(int64)) error {
	t := transfer.Transfer{
		File: f,
		Get: func(ctx context.Context, have int64) (transfer.Part, error) {
			return r.getBlob(ctx, desc.Digest, have)
		},
		Temporary: temporary, Progress: func(done, _ int64) { progress(done) },
		Retry: r.retry, Log: r.log, Name: slog.String("digest", desc.Digest.String()),
		SHA256: desc.Digest.Hex, Size: desc.Size,
		Wrong: func(got string) error {
			return api.Errorf(api.CodeInvalid, "the registry sent something else than was asked for: its digest is sha256:%s instead of %s",
				got, desc.Digest).WithHint("try again; if that doesn't help, the registry or something on the way to it is broken")
		},
	}
	return t.Run(ctx)
}
