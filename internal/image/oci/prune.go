package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/transfer"
)

// CacheUsage returns how many bytes of the disk the cache in dir takes, partial
// blobs included.
func CacheUsage(dir string) (int64, error) {
	var sum int64
	err := eachBlob(dir, func(path, _ string) error {
		info, err := os.Lstat(path)
		if err == nil {
			sum += transfer.Allocated(info)
		}
		return ignoreMissing(err)
	})
	return sum, err
}

// PruneCache removes the blobs for which keep is false, partial ones as well,
// and returns how many bytes of the disk that freed. What a pull fetches or has
// returned in an Image that isn't closed stays.
func PruneCache(ctx context.Context, dir string, keep func(digest string) bool) (removed int64, err error) {
	err = eachBlob(dir, func(path, digest string) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if keep(digest) {
			return nil
		}
		freed, err := removeIdle(path)
		removed += freed
		return err
	})
	return removed, err
}

// eachBlob calls f for every file of the cache.
func eachBlob(dir string, f func(path, digest string) error) error {
	const algorithm = "sha256"
	blobs := filepath.Join(dir, algorithm)
	entries, err := os.ReadDir(blobs)
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range entries {
		digest := algorithm + ":" + strings.TrimSuffix(e.Name(), transfer.PartialSuffix)
		if err := f(filepath.Join(blobs, e.Name()), digest); err != nil {
			return err
		}
	}
	return nil
}

// removeIdle removes a file that nobody has locked and returns what it took.
func removeIdle(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, ignoreMissing(err)
	}
	defer f.Close()
	locked, err := transfer.TryLock(f, unix.LOCK_EX)
	if err != nil || !locked {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("look at a blob: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return 0, fmt.Errorf("remove a blob: %w", err)
	}
	return transfer.Allocated(info), nil
}

// ignoreMissing drops the error of a file that isn't there: somebody else
// removed or renamed it.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
