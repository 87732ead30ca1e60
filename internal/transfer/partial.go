package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// PartialSuffix ends the names of files that aren't complete. Such a file is
// locked (flock) by who fills it, and stays for the next one to go on with.
const PartialSuffix = ".partial"

// Waiting for another transfer of the same file: how often to look.
const (
	firstLook = 20 * time.Millisecond
	lastLook  = 500 * time.Millisecond
)

// Await calls try until it is done or fails. Between two looks, somebody else
// fills path's partial file, and progress gets how much there is.
func Await(ctx context.Context, path string, progress func(done int64), try func() (done bool, err error)) error {
	for look := firstLook; ; look = min(2*look, lastLook) {
		if done, err := try(); done || err != nil {
			return err
		}
		if info, err := os.Stat(path + PartialSuffix); err == nil {
			progress(info.Size())
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Lock opens and locks a file, and makes it if it is missing. It returns nil
// if somebody else has the lock.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a partial file: %w", err)
	}
	locked, err := TryLock(f, unix.LOCK_EX)
	if err != nil || !locked {
		f.Close()
		return nil, err
	}
	return f, nil
}

// TryLock locks an open file, unless somebody else has the lock or the file no
// longer has its name.
func TryLock(f *os.File, how int) (bool, error) {
	err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	// Whoever had the lock before may have renamed or removed the file.
	ours, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("look at a file that is locked: %w", err)
	}
	now, err := os.Stat(f.Name())
	return err == nil && os.SameFile(ours, now), nil
}

// Place gives a complete file the name path, of the same directory.
func Place(f *os.File, path string) error {
	if err := f.Sync(); err != nil {
		return fmt.Errorf("flush a download: %w", err)
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

// IsEmpty tells whether a partial file is one that nobody could go on with.
func IsEmpty(f *os.File) (bool, error) {
	info, err := f.Stat()
	return err == nil && info.Size() == 0, err
}

// Remove removes a file, if it is there.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what a download left: %w", err)
	}
	return nil
}

// Allocated returns the bytes of a file's blocks; stat(2) counts them in units
// of 512.
func Allocated(info fs.FileInfo) int64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.Size()
	}
	return st.Blocks * 512
}
