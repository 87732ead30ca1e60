package flatten

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"banger/internal/room"
)

// chunkSize is the unit of copying, and the least run of zeros that becomes a
// hole of the spool.
const chunkSize = 64 << 10

// spool holds the contents of files until it is known which of them the tree
// keeps. It is a file without a name, so that nothing of it stays whatever
// happens to this process. It is safe for concurrent use.
type spool struct {
	f   *os.File
	end atomic.Int64
	max int64
}

func newSpool(dir string, maxBytes int64) (*spool, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return &spool{f: os.NewFile(uintptr(fd), filepath.Join(dir, "spool")), max: maxBytes}, nil
	}
	// Not every file system can do that.
	f, err := os.CreateTemp(dir, ".spool-")
	if err != nil {
		return nil, fmt.Errorf("create a file for contents: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("unlink the file for contents: %w", err)
	}
	return &spool{f: f, max: maxBytes}, nil
}

var zeroChunk [chunkSize]byte

// isZero looks at no more than a chunk.
func isZero(p []byte) bool { return bytes.Equal(p, zeroChunk[:len(p)]) }

// Close frees the space.
func (s *spool) Close() error { return s.f.Close() }

// contents is where the contents of a file are in a spool.
type contents struct {
	offset, size int64
	// data lists the parts that aren't zeros, if any whole chunk is; they
	// alone are in the spool. Otherwise it is nil.
	data []run
	// placed says that they are at the offset of a Placer instead.
	placed bool
}

// run is a part of a file.
type run struct{ start, end int64 }

// store implements keeper.
func (s *spool) store(r io.Reader, size int64, buf []byte) (contents, error) {
	c := contents{size: size}
	var err error
	if c.offset, err = s.allocate(size); err != nil {
		return c, err
	}
	var data []run
	holes := false
	for at := int64(0); at < size; {
		n, err := readChunk(r, buf, size-at)
		if err != nil {
			return c, err
		}
		next := at + int64(n)
		if isZero(buf[:n]) {
			holes = true
		} else {
			if _, err := s.f.WriteAt(buf[:n], c.offset+at); err != nil {
				return c, &hostError{room.Explain(fmt.Errorf("keep contents: %w", err), filepath.Dir(s.f.Name()))}
			}
			data = extend(data, at, next)
		}
		at = next
	}
	if holes {
		c.data = append(data, run{size, size}) // never nil, and ends the last hole
	}
	return c, nil
}

// extend adds a part to data that comes after all the others.
func extend(data []run, start, end int64) []run {
	if last := len(data) - 1; last >= 0 && data[last].end == start {
		data[last].end = end
		return data
	}
	return append(data, run{start, end})
}

// allocate reserves room. Big files start where a block of the host's file
// system does, without which there are no holes.
func (s *spool) allocate(size int64) (int64, error) {
	for {
		end := s.end.Load()
		offset := end
		if size >= chunkSize {
			offset = (end + chunkSize - 1) &^ (chunkSize - 1)
		}
		if size > s.max-offset {
			return 0, errTooBig
		}
		if s.end.CompareAndSwap(end, offset+size) {
			return offset, nil
		}
	}
}

// open returns a reader of what store put there.
func (s *spool) open(c contents) io.Reader {
	if c.data == nil {
		return io.NewSectionReader(s.f, c.offset, c.size)
	}
	var parts []io.Reader
	at := int64(0)
	for _, r := range c.data {
		// Reading holes of the file would cost as much as reading data.
		parts = append(parts, io.LimitReader(zeros{}, r.start-at), io.NewSectionReader(s.f, c.offset+r.start, r.end-r.start))
		at = r.end
	}
	return io.MultiReader(parts...)
}

// zeros is an endless hole.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
