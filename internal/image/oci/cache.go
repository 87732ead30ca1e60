package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// partialSuffix ends the names of blobs that aren't complete.
const partialSuffix = ".partial"

// Waiting for another pull: how often to look.
const (
	firstLook = 20 * time.Millisecond
	lastLook  = 500 * time.Millisecond
)

// cache keeps blobs in files named by digest, below dir/sha256. A complete
// blob is never changed. A partial file is locked (flock) by who fills it,
// and stays for the next one to go on with.
type cache struct {
	dir   string
	fetch func(ctx context.Context, desc v1.Descriptor, f *os.File, progress func(int64)) error
}

// get returns the file of a blob and fetches it if need be. If another get,
// in whatever process, is doing that, it waits for it. progress gets how many
// bytes are there; calls don't overlap.
func (c *cache) get(ctx context.Context, desc v1.Descriptor, progress func(int64)) (string, error) {
	path := filepath.Join(c.dir, desc.Digest.Algorithm, desc.Digest.Hex)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("create the cache: %w", err)
	}
	for look := firstLook; ; look = min(2*look, lastLook) {
		if ok, err := present(path, desc.Size); ok || err != nil {
			return path, err
		}
		f, err := lock(path + partialSuffix)
		if err != nil {
			return "", err
		}
		if f != nil {
			return path, c.fill(ctx, desc, f, path, progress)
		}
		if info, err := os.Stat(path + partialSuffix); err == nil {
			progress(info.Size())
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// fill completes the locked partial file f and gives it its name. Closing it
// ends the lock.
func (c *cache) fill(ctx context.Context, desc v1.Descriptor, f *os.File, path string, progress func(int64)) (err error) {
	defer f.Close()
	// Another process may have finished between our look and our lock.
	if ok, err := present(path, desc.Size); ok || err != nil {
		return errors.Join(err, dropIfEmpty(f))
	}
	if err := c.fetch(ctx, desc, f, progress); err != nil {
		return errors.Join(err, dropIfEmpty(f))
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("flush a blob: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("move a blob into place: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// dropIfEmpty removes a partial file that nobody could go on with. Its lock is
// still held.
func dropIfEmpty(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() > 0 {
		return err
	}
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove an empty partial file: %w", err)
	}
	return nil
}

// present reports whether a blob is complete. One of the wrong size, which
// only damage explains, is removed.
func present(path string, size int64) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a blob in the cache: %w", err)
	}
	if info.Size() == size {
		return true, nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("remove a damaged blob: %w", err)
	}
	return false, nil
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

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open the cache: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("flush the cache: %w", err)
	}
	return nil
}
