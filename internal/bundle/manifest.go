package bundle

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"banger/internal/download"
)

// Manifest returns the manifest.json of the bundle at source, which is as in
// Unpack, without unpacking or keeping anything: what it describes may be
// refused before gigabytes are fetched. Nothing has checked that it is what
// Unpack will find, since a sum is of the whole. Errors are those of Unpack.
func Manifest(ctx context.Context, source string, o Options) ([]byte, error) {
	u := &unpacking{Options: o, source: Redact(source)}
	var data []byte
	read := func(r io.Reader) (err error) {
		data, err = u.manifest(ctx, r)
		return err
	}
	if IsURL(source) {
		err := download.Peek(ctx, source, download.Options{Client: o.Client, Retry: o.Retry, Log: o.Log}, read)
		return data, err
	}
	f, err := openSource(source)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return data, read(f)
}

// manifest reads the first file of a bundle. Errors of r itself stay as they
// are.
func (u *unpacking) manifest(ctx context.Context, r io.Reader) ([]byte, error) {
	failing := &failingReader{r: r}
	dec, err := newDecoder(&contextReader{ctx: ctx, r: failing, onRead: func(int) {}})
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	x := &extraction{unpacking: u, left: maxManifest, seen: make(map[string]bool)}
	archive := tar.NewReader(dec)
	header, err := archive.Next()
	if err == nil {
		if err := x.check(header); err != nil {
			return nil, err
		}
		var data []byte
		if data, err = io.ReadAll(archive); err == nil {
			return data, nil
		}
	}
	if failing.err != nil {
		return nil, failing.err
	}
	if errors.Is(err, io.EOF) {
		return nil, u.invalid("it is empty")
	}
	return nil, u.damaged(ctx, err)
}

// newDecoder decompresses within bounds.
func newDecoder(r io.Reader) (*zstd.Decoder, error) {
	dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return dec, nil
}

// failingReader remembers how reading failed, which decompression hides.
type failingReader struct {
	r   io.Reader
	err error
}

func (r *failingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}
