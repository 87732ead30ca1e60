package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
)

// block is the unit in which holes are looked for: ext4's usual block, and
// that of most file systems that images are kept on.
const block = 4096

// maxTrailer is how much may follow the archive's end: tar(1) fills up its
// last record with zeros.
const maxTrailer = 1 << 20

// maxFiles is how many files a bundle may have. A kernel's has most: one for
// each module that a boot may need.
const maxFiles = 1024

// extraction writes the files of one archive.
type extraction struct {
	*unpacking
	root   *os.Root
	left   int64 // of MaxBytes
	seen   map[string]bool
	report *extractReport
}

// all unpacks the archive and reads it to its very end.
func (x *extraction) all(ctx context.Context, r io.Reader) error {
	archive := tar.NewReader(r)
	buf := make([]byte, 256*block)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return x.damaged(ctx, err)
		}
		if err := x.check(header); err != nil {
			return err
		}
		x.report.file(header.Name)
		if err := x.file(ctx, archive, header, buf); err != nil {
			return err
		}
	}
	if !x.seen[ManifestName] {
		return x.invalid("it is empty")
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxTrailer+1))
	if err != nil {
		return x.damaged(ctx, err)
	}
	if n > maxTrailer {
		return x.invalid("something follows the archive in it")
	}
	return nil
}

// check decides whether an entry may be written.
func (x *extraction) check(h *tar.Header) error {
	switch {
	case len(x.seen) == 0 && h.Name != ManifestName:
		return x.invalid("it begins with %q instead of %s", h.Name, ManifestName)
	case h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeGNUSparse:
		return x.invalid("%q in it is not a regular file", h.Name)
	case !validName(h.Name):
		return x.invalid("a file in it is called %q", h.Name)
	case len(x.seen) >= maxFiles:
		return x.invalid("it has more than %d files", maxFiles)
	case x.seen[h.Name]:
		return x.invalid("%q is in it twice", h.Name)
	case h.Name != ManifestName && x.Allowed != nil && !x.Allowed(h.Name):
		return x.invalid("there is no use for the file %q in it", h.Name)
	case h.Name == ManifestName && h.Size > maxManifest:
		return x.invalid("its %s is longer than 1 MiB", ManifestName)
	case h.Size > x.left:
		return x.invalid("its files are larger than the %d MiB that are allowed for it", x.MaxBytes>>20)
	}
	x.seen[h.Name] = true
	x.left -= h.Size
	return nil
}

// file writes one file.
func (x *extraction) file(ctx context.Context, r io.Reader, h *tar.Header, buf []byte) error {
	if dir := path.Dir(h.Name); dir != "." {
		if err := x.root.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("unpack %s: %w", h.Name, err)
		}
	}
	f, err := x.root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", h.Name, err)
	}
	defer f.Close()
	for offset := int64(0); offset < h.Size; {
		if ctx.Err() != nil { // the holes of a sparse file need no reading
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(r, buf[:min(int64(len(buf)), h.Size-offset)])
		if err != nil {
			return x.damaged(ctx, err)
		}
		if err := writeSparse(f, buf[:n], offset); err != nil {
			return fmt.Errorf("unpack %s: %w", h.Name, err)
		}
		offset += int64(n)
	}
	if err := f.Truncate(h.Size); err != nil {
		return fmt.Errorf("unpack %s: %w", h.Name, err)
	}
	return f.Close()
}

var zeros [block]byte

// writeSparse writes p at an offset of f, which has nothing there, but leaves
// out blocks of zeros.
func writeSparse(f *os.File, p []byte, offset int64) error {
	for len(p) > 0 {
		skip := run(p, true)
		p, offset = p[skip:], offset+int64(skip)
		n := run(p, false)
		if _, err := f.WriteAt(p[:n], offset); err != nil {
			return err
		}
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}

// run returns how many bytes p starts with that are of blocks of zeros, or of
// other blocks.
func run(p []byte, zero bool) int {
	n := 0
	for n < len(p) {
		b := p[n:min(n+block, len(p))]
		if bytes.Equal(b, zeros[:len(b)]) != zero {
			break
		}
		n += len(b)
	}
	return n
}
