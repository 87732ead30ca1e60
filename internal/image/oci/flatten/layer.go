package flatten

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
)

// readLayer reads a layer to its end, checks it, and returns its entries; the
// contents of its files go into kept.
func readLayer(ctx context.Context, layer Layer, kept keeper, budget *budget, meter *meter) ([]entry, error) {
	f, err := os.Open(layer.Path)
	if err != nil {
		return nil, fmt.Errorf("open the layer's file: %w", err)
	}
	defer f.Close()
	plain, err := Decompress(&meteredReader{&hostReader{ctx, io.NewSectionReader(f, layer.Offset, layer.Size)}, meter})
	if err != nil {
		return nil, blame(layer, err)
	}
	defer plain.Close()
	ahead := newReadahead(plain, sha256.New())
	defer ahead.Close()
	r := &boundedReader{r: ahead, left: &budget.unpacked}
	entries, err := readEntries(ctx, r, kept, budget)
	if err != nil {
		return nil, blame(layer, err)
	}
	// What comes after the tar's end is part of the digest, and errors there
	// are signs of damage.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, blame(layer, err)
	}
	if layer.DiffID != "" {
		if got := "sha256:" + hex.EncodeToString(ahead.sum()); got != layer.DiffID {
			return nil, blame(layer, badLayer("its content is %s, but the image's configuration says %s",
				shortDigest(got), shortDigest(layer.DiffID)))
		}
	}
	return entries, nil
}

func readEntries(ctx context.Context, r io.Reader, kept keeper, budget *budget) ([]entry, error) {
	var entries []entry
	tr := tar.NewReader(r)
	content := &contentReader{ctx, tr}
	buf := make([]byte, chunkSize)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return nil, err
		}
		e, ok, err := toEntry(hdr)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if err := budget.take(e.metadata()); err != nil {
			return nil, err
		}
		if e.act == actAdd && e.inode.contents.size > 0 {
			if e.inode.contents, err = kept.store(content, e.inode.contents.size, buf); err != nil {
				return nil, err
			}
		}
		entries = append(entries, e)
	}
}

// blame tells errors that lie in the layer from those of the host, and in the
// former whether the layer came like this or was damaged on this host.
func blame(layer Layer, err error) error {
	var host *hostError
	if errors.As(err, &host) {
		return host.err
	}
	var bad *badLayerError
	switch {
	case errors.As(err, &bad):
	case errors.Is(err, io.ErrUnexpectedEOF):
		bad = &badLayerError{msg: "it ends too early", hint: publisherHint}
	case errors.Is(err, tar.ErrHeader):
		bad = &badLayerError{msg: "it is not a valid tar file", hint: publisherHint}
	default:
		bad = &badLayerError{msg: "its data is damaged: " + err.Error(), hint: publisherHint}
	}
	if damaged(layer) {
		if err := os.Remove(layer.Path); err != nil {
			return fmt.Errorf("remove the damaged file of the layer: %w", err)
		}
		bad = &badLayerError{msg: "its file in the cache was damaged and is now removed", hint: "pull the image again"}
	}
	return bad
}

// damaged reports whether the file of a layer isn't what its digest says.
func damaged(layer Layer) bool {
	want, ok := strings.CutPrefix(layer.Digest, "sha256:")
	if !ok {
		return false
	}
	f, err := os.Open(layer.Path)
	if err != nil {
		return false
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return false
	}
	return hex.EncodeToString(hash.Sum(nil)) != want
}

// hostError marks an error that has nothing to do with a layer's content, on
// its way through the readers of other packages.
type hostError struct{ err error }

func (e *hostError) Error() string { return e.err.Error() }
func (e *hostError) Unwrap() error { return e.err }

// hostReader marks the errors of a file, and fails once ctx has ended.
type hostReader struct {
	ctx context.Context
	f   io.Reader
}

func (h *hostReader) Read(p []byte) (int, error) {
	if h.ctx.Err() != nil {
		return 0, &hostError{context.Cause(h.ctx)}
	}
	n, err := h.f.Read(p)
	if err != nil && err != io.EOF { // readers of other packages compare with ==
		err = &hostError{err}
	}
	return n, err
}

// contentReader fails once ctx has ended. The holes of a sparse file need no
// reading of the layer.
type contentReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contentReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, &hostError{context.Cause(c.ctx)}
	}
	return c.r.Read(p)
}

// boundedReader fails when there is more to read than allowed for all layers.
type boundedReader struct {
	r    io.Reader
	left *atomic.Int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left.Add(-int64(n)) < 0 {
		return 0, tooMuch("the image unpacks to more than is allowed")
	}
	return n, err
}
