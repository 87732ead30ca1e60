package flatten

import (
	"crypto/sha256"
	"errors"
	"io"
	"testing"

	"banger/internal/guard"
)

// buggy panics after some bytes, as a decompressor with a bug would.
type buggy struct{ left int }

func (b *buggy) Read(p []byte) (int, error) {
	if b.left == 0 {
		panic("a bug")
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

func TestReadaheadOfAPanic(t *testing.T) {
	const size = 3*readaheadSize + 1
	a := newReadahead(&buggy{size}, sha256.New())
	n, err := io.Copy(io.Discard, a)
	var e *guard.PanicError
	if n != size || !errors.As(err, &e) {
		t.Errorf("got %d bytes and %v, want %d and a PanicError", n, err, size)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
