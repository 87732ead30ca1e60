// Package ctxreader ends reading with a context.
package ctxreader

import (
	"context"
	"io"
)

// New returns a reader of r that fails, with the cause, once ctx has ended.
func New(ctx context.Context, r io.Reader) io.Reader { return &reader{ctx, r} }

type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
