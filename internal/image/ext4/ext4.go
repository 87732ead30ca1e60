// Package ext4 makes read-only ext4 images of trees in one pass, as any user:
// owners, devices and attributes come from headers like those of a tar and are
// never created on the host.
//
// Contents go to where they stay as they come, one file after the other; what
// describes them follows in the end. Blocks of zeros become holes of the image
// file. The format is https://docs.kernel.org/filesystems/ext4/; there is no
// journal and there are no checksums, as in a file system that is never written.
package ext4

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"banger/internal/ctxreader"
	"banger/internal/room"
)

// defaultMaxBytes is how big an image may get unless the caller says
// otherwise. A higher bound costs some sparse space for group descriptors.
const defaultMaxBytes = 1 << 40

// Options are the parameters of Write. The zero value is good.
type Options struct {
	// MaxBytes bounds the size of the image; 0 means 1 TiB.
	MaxBytes int64
	// UUID identifies the file system; if zero, it is derived from the
	// metadata of the stream, so that equal streams give equal images.
	UUID [16]byte
	// Label is the volume's name, at most 16 bytes.
	Label string
	// Time is when the file system says that it was made; if zero, the latest
	// modification time in the stream.
	Time time.Time
}

// Write reads a tar stream and makes an image of the tree in it: see Create.
func Write(ctx context.Context, r io.Reader, path string, opts Options) error {
	return Create(ctx, path, func(w *Writer) error { return copyTar(w, ctxreader.New(ctx, r)) }, opts)
}

// Create makes an ext4 image of the tree that fill writes. It is as big as its
// content needs, has no journal and is marked read-only: it is to be mounted,
// never grown. Entries must come after their directories and hard links after
// their targets; a name must not come twice.
//
// path appears complete or not at all. Everything depends on what fill writes
// and on the options only. What ext4 can't hold is an api.CodeInvalid error, a
// full disk an api.CodeHost error; fill's own errors come back as they are.
func Create(ctx context.Context, path string, fill func(*Writer) error, opts Options) error {
	if len(opts.Label) > labelSize {
		return fmt.Errorf("label %q is longer than %d bytes", opts.Label, labelSize)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-")
	if err != nil {
		return fmt.Errorf("create the image file: %w", err)
	}
	defer func() {
		f.Close()
		os.Remove(f.Name()) // gone already if all went well
	}()
	if err := convert(ctx, fill, f, opts); err != nil {
		return room.Explain(err, filepath.Dir(path))
	}
	if err := f.Chmod(0o644); err != nil {
		return fmt.Errorf("set the mode of the image file: %w", err)
	}
	if err := f.Sync(); err != nil {
		return room.Explain(fmt.Errorf("flush the image file: %w", err), filepath.Dir(path))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("move the image file into place: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// convert writes the file system to f, which is empty.
func convert(ctx context.Context, fill func(*Writer) error, f *os.File, opts Options) error {
	maxBytes := opts.MaxBytes
	if maxBytes <= 0 {
		maxBytes = defaultMaxBytes
	}
	blocks := min(maxBytes/blockSize, math.MaxUint32)
	w := newWriter(ctx, newDevice(f, 1+descBlocks(blocks), uint32(blocks)))
	if err := fill(w); err != nil {
		return err
	}
	id := identity{uuid: opts.UUID, label: opts.Label, made: opts.Time}
	if id.uuid == ([16]byte{}) {
		id.uuid = derivedUUID(w.headers.Sum(nil), opts.Label)
	}
	if id.made.IsZero() {
		id.made = w.latest
	}
	return w.finish(id)
}

// derivedUUID makes a version 8 UUID (RFC 9562) of a digest.
func derivedUUID(digest []byte, label string) [16]byte {
	h := sha256.New()
	h.Write(digest)
	h.Write([]byte(label))
	var id [16]byte
	copy(id[:], h.Sum(nil))
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open the image's directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("flush the image's directory: %w", err)
	}
	return nil
}
