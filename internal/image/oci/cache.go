package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"banger/internal/room"
)

// partialSuffix ends the names of blobs that aren't complete.
const partialSuffix = ".partial"

// Waiting for another pull: how often to look.
const (
	firstLook = 20 * time.Millisecond
	lastLook  = 500 * time.Millisecond
)

// cache keeps blobs in files named by digest, below dir/sha256. A complete
// blob is never changed, and is locked (flock), shared, by whom uses it. A
// partial file is locked by who fills it, and stays for the next one to go on
// with. Files without a lock may go at any time: see PruneCache.
type cache struct {
	dir   string
	fetch func(ctx context.Context, desc v1.Descriptor, f *os.File, progress func(int64)) error
}

// get returns the file of a blob, locked until it is closed, and fetches it if
// need be. If another get, in whatever process, is doing that, it waits for it.
// progress gets how many bytes are there; calls don't overlap.
func (c *cache) get(ctx context.Context, desc v1.Descriptor, progress func(int64)) (*os.File, error) {
	path := filepath.Join(c.dir, desc.Digest.Algorithm, desc.Digest.Hex)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create the cache: %w", err)
	}
	for look := firstLook; ; look = min(2*look, lastLook) {
		f, busy, err := take(path, desc.Size)
		if f == nil && !busy && err == nil {
			f, err = c.fill(ctx, desc, path, progress)
		}
		if f != nil || err != nil {
			return f, err
		}
		if info, err := os.Stat(path + partialSuffix); err == nil {
			progress(info.Size())
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// fill completes the partial file of a blob, gives it its name and takes it.
// The result is nil if somebody else does that, or has just done it.
func (c *cache) fill(ctx context.Context, desc v1.Descriptor, path string, progress func(int64)) (*os.File, error) {
	f, err := lock(path + partialSuffix)
	if f == nil || err != nil {
		return nil, err
	}
	defer f.Close() // ends the lock
	// Another process may have finished between our look and our lock.
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, dropIfEmpty(f))
	}
	if err := c.fetch(ctx, desc, f, progress); err != nil {
		var full *room.FullError
		if errors.As(context.Cause(ctx), &full) {
			return nil, errors.Join(full, drop(f)) // whole layers are worth their room, parts aren't
		}
		return nil, errors.Join(err, dropIfEmpty(f))
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("flush a blob: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return nil, fmt.Errorf("move a blob into place: %w", err)
	}
	// No longer to be kept from readers, but still from PruneCache.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		return nil, fmt.Errorf("share a blob: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	there, _, err := take(path, desc.Size)
	return there, err
}

// dropIfEmpty removes a partial file that nobody could go on with. Its lock is
// still held.
func dropIfEmpty(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() > 0 {
		return err
	}
	return drop(f)
}

// drop removes a partial file. Its lock is still held.
func drop(f *os.File) error {
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a partial file: %w", err)
	}
	return nil
}

// missing returns how many bytes of each blob aren't there yet.
func (c *cache) missing(descs []v1.Descriptor) []int64 {
	sizes := make(map[v1.Hash]int64) // the same blob may be listed twice
	for _, desc := range descs {
		path := filepath.Join(c.dir, desc.Digest.Algorithm, desc.Digest.Hex)
		sizes[desc.Digest] = desc.Size
		for _, name := range []string{path, path + partialSuffix} {
			if info, err := os.Stat(name); err == nil {
				sizes[desc.Digest] = max(0, desc.Size-info.Size())
			}
		}
	}
	return slices.Collect(maps.Values(sizes))
}

// take opens and locks the file of a complete blob. The result is nil if there
// is none; busy tells that somebody is just finishing or removing it. A file of
// the wrong size, which only damage explains, is removed.
func take(path string, size int64) (f *os.File, busy bool, err error) {
	f, err = os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("look for a blob in the cache: %w", err)
	}
	locked, err := tryLock(f, unix.LOCK_SH)
	if err != nil || !locked {
		f.Close()
		return nil, !locked, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, false, fmt.Errorf("look at a blob in the cache: %w", err)
	}
	if info.Size() == size {
		return f, false, nil
	}
	f.Close()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("remove a damaged blob: %w", err)
	}
	return nil, false, nil
}

// lock opens and locks a file, and makes it if it is missing. It returns nil
// if somebody else has the lock.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a partial file: %w", err)
	}
	locked, err := tryLock(f, unix.LOCK_EX)
	if err != nil || !locked {
		f.Close()
		return nil, err
	}
	return f, nil
}

// tryLock locks an open file, unless somebody else has the lock or the file no
// longer has its name.
func tryLock(f *os.File, how int) (bool, error) {
	err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock a file of the cache: %w", err)
	}
	// Whoever had the lock before may have renamed or removed the file.
	ours, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("look at a file of the cache: %w", err)
	}
	now, err := os.Stat(f.Name())
	return err == nil && os.SameFile(ours, now), nil
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
