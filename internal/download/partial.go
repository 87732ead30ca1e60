package download

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A partial file is locked (flock) by who fills it. Beside it is a file that
// says what it is the start of.
const (
	partialSuffix = ".partial"
	originSuffix  = ".origin"
)

// origin says what a partial file is the start of.
type origin struct {
	URL string `json:"url"`
	// Validator identifies the version of the file, for If-Range (RFC 9110,
	// section 13.1.5): a strong entity tag or a date. Empty if the server
	// gives neither.
	Validator string `json:"validator"`
}

// lock opens and locks a file, and makes it if it is missing. It returns nil
// if somebody else has the lock.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a partial file: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		return nil, nil
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock a partial file: %w", err)
	}
	// Whoever had the lock before may have renamed or removed the file.
	ours, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("look at a partial file: %w", err)
	}
	if now, err := os.Stat(path); err != nil || !os.SameFile(ours, now) {
		f.Close()
		return nil, nil
	}
	return f, nil
}

// readOrigin returns what the partial file f is the start of; nothing if that
// isn't known.
func readOrigin(f *os.File) (origin, error) {
	var o origin
	data, err := os.ReadFile(f.Name() + originSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	if err != nil {
		return o, fmt.Errorf("read where a partial file is from: %w", err)
	}
	if json.Unmarshal(data, &o) != nil {
		return origin{}, nil // cut off by a crash
	}
	return o, nil
}

// writeOrigin must come before the first byte of the file.
func writeOrigin(f *os.File, o origin) error {
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.Name()+originSuffix, data, 0o600); err != nil {
		return fmt.Errorf("note where a partial file is from: %w", err)
	}
	return nil
}

// finish gives the complete file f the name path.
func finish(f *os.File, path string) error {
	if err := f.Sync(); err != nil {
		return fmt.Errorf("flush a download: %w", err)
	}
	if err := removeIfThere(f.Name() + originSuffix); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("move a download into place: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("flush a download: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("flush a download: %w", err)
	}
	return nil
}

// dropIfEmpty removes a partial file that nobody could go on with. Its lock is
// still held.
func dropIfEmpty(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() > 0 {
		return err
	}
	return dropPartial(f)
}

// dropPartial removes a partial file. Its lock is still held.
func dropPartial(f *os.File) error {
	return errors.Join(removeIfThere(f.Name()+originSuffix), removeIfThere(f.Name()))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what a download left: %w", err)
	}
	return nil
}
