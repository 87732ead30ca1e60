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

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"banger/internal/room"
	"banger/internal/transfer"
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
	var f *os.File
	err := transfer.Await(ctx, path, progress, func() (bool, error) {
		var busy bool
		var err error
		f, busy, err = take(path, desc.Size)
		if f == nil && !busy && err == nil {
			f, err = c.fill(ctx, desc, path, progress)
		}
		return f != nil, err
	})
	return f, err
}

// fill completes the partial file of a blob, gives it its name and takes it.
// The result is nil if somebody else does that, or has just done it.
func (c *cache) fill(ctx context.Context, desc v1.Descriptor, path string, progress func(int64)) (*os.File, error) {
	f, err := transfer.Lock(path + transfer.PartialSuffix)
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
			return nil, errors.Join(full, transfer.Remove(f.Name())) // whole layers are worth their room, parts aren't
		}
		return nil, errors.Join(err, dropIfEmpty(f))
	}
	if err := transfer.Place(f, path); err != nil {
		return nil, err
	}
	// No longer to be kept from readers, but still from PruneCache.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		return nil, fmt.Errorf("share a blob: %w", err)
	}
	there, _, err := take(path, desc.Size)
	return there, err
}

// dropIfEmpty removes a partial file that nobody could go on with. Its lock is
// still held.
func dropIfEmpty(f *os.File) error {
	if empty, err := transfer.IsEmpty(f); !empty {
		return err
	}
	return transfer.Remove(f.Name())
}

// missing returns how many bytes of each blob aren't there yet.
func (c *cache) missing(descs []v1.Descriptor) []int64 {
	sizes := make(map[v1.Hash]int64) // the same blob may be listed twice
	for _, desc := range descs {
		path := filepath.Join(c.dir, desc.Digest.Algorithm, desc.Digest.Hex)
		sizes[desc.Digest] = desc.Size
		for _, name := range []string{path, path + transfer.PartialSuffix} {
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
	locked, err := transfer.TryLock(f, unix.LOCK_SH)
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
