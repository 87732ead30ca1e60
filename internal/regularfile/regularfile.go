// Package regularfile reads files by names that others have chosen: what is there
// may be a pipe that nobody writes to, a device, or without end.
package regularfile

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotRegular is the error for what isn't a regular file.
var ErrNotRegular = errors.New("it is not a regular file")

// Open opens a regular file for reading. Symbolic links are followed, unless
// flags has O_NOFOLLOW and the last part of path is one. It doesn't wait for the
// other end of a pipe, and fails with ErrNotRegular for one.
func Open(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|flags, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotRegular
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Read returns what is in a regular file, which Open opens. It fails if that is
// more than limit bytes.
func Read(path string, flags int, limit int64) ([]byte, error) {
	f, err := Open(path, flags)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("it is longer than %d KiB", limit>>10)
	}
	return data, nil
}
