package depot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// place gives the finished directory temp its name. An old directory of that
// name is at temp afterwards. It waits until nobody holds the old one.
func (d *Depot[T]) place(ctx context.Context, temp, name string, r *run) error {
	for {
		h, err := d.tryPlace(ctx, temp, name, r)
		if h == nil {
			return err
		}
		r.progress.report("waiting until the old one is free", 99)
		select {
		case <-h.free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tryPlace is place, but returns the hold that is in the way, if any.
func (d *Depot[T]) tryPlace(ctx context.Context, temp, name string, r *run) (*hold, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h := d.holds[name]; h != nil {
		return h, nil
	}
	final := d.path(name)
	there, err := exists(final)
	if err != nil {
		return nil, err
	}
	if !there {
		if err := os.Rename(temp, final); err != nil {
			return nil, fmt.Errorf("put %s into its place: %w", final, err)
		}
		return nil, nil
	}
	if r.inUse != nil {
		if err := r.inUse(ctx); err != nil {
			return nil, err
		}
	}
	d.log.Info("replace a directory", "dir", final)
	if err := exchange(temp, final); err != nil {
		return nil, fmt.Errorf("put a new %s into the old one's place: %w", final, err)
	}
	return nil, nil
}

// exchange swaps the names of two files or directories in one step, or, on a
// file system that can't do that, such as NFS, in three.
func exchange(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return exchangeInSteps(a, b)
	}
	return err
}

// exchangeInSteps swaps the names of two files or directories. If it dies
// midway, b is missing, and what it was has a name that starts with a's.
func exchangeInSteps(a, b string) error {
	aside := a + "-aside"
	if err := os.Rename(b, aside); err != nil {
		return err
	}
	if err := os.Rename(a, b); err != nil {
		return errors.Join(err, os.Rename(aside, b))
	}
	return os.Rename(aside, a)
}

// exists reports whether there is anything at path.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", path, err)
	}
	return true, nil
}

// remove removes a tree that processes which are being killed may still write
// to for a moment.
func remove(ctx context.Context, dir string) error {
	for deadline := time.Now().Add(10 * time.Second); ; {
		err := os.RemoveAll(dir)
		if !errors.Is(err, unix.ENOTEMPTY) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// syncTree makes a tree survive a loss of power.
func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || (!e.IsDir() && !e.Type().IsRegular()) {
			return err
		}
		return syncDir(path)
	})
}

// syncDir flushes one directory, or file, to disk.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
