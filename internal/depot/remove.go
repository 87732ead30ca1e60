package depot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"banger/internal/api"
	"banger/internal/naming"
)

// hold keeps a directory from being replaced or removed.
type hold struct {
	n    int           // how many there are, at least 1; guarded by Depot.mu
	free chan struct{} // closed when the last one is released
}

// Hold is Get, but the directory is neither removed nor replaced until release
// is called. Hold it only until its use is on record where inUse of Remove and
// Replace looks. Release may be called more than once.
func (d *Depot[T]) Hold(name string) (dir T, release func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, err = d.Get(name)
	if err != nil {
		return dir, nil, err
	}
	h := d.holds[name]
	if h == nil {
		h = &hold{free: make(chan struct{})}
		d.holds[name] = h
	}
	h.n++
	return dir, sync.OnceFunc(func() { d.release(name, h) }), nil
}

func (d *Depot[T]) release(name string, h *hold) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h.n--
	if h.n == 0 {
		delete(d.holds, name)
		close(h.free)
	}
}

// Remove removes a directory, damaged or not. The error matches fs.ErrNotExist
// if there is none of that name, and is an api.CodeConflict one while somebody
// holds or makes it. inUse, unless nil, is asked with nobody able to Hold the
// directory meanwhile; its error ends Remove, and the directory stays. It must
// not call Ensure, Replace, Remove or Hold of the same depot.
func (d *Depot[T]) Remove(ctx context.Context, name string, inUse func(context.Context) error) error {
	if !naming.IsStored(name) {
		return fmt.Errorf("name %q: %w", name, fs.ErrNotExist)
	}
	for {
		gone, r, err := d.unname(ctx, name, inUse)
		if err != nil {
			return err
		}
		if r != nil {
			if err := r.ended(ctx); err != nil {
				return err
			}
			continue
		}
		d.log.Info("removed", "name", name)
		err = errors.Join(syncDir(d.dir), remove(context.WithoutCancel(ctx), gone))
		if err != nil {
			return fmt.Errorf("remove what is left of %s: %w", name, err)
		}
		return nil
	}
}

// unname gives a directory a temporary name, so that it vanishes at once, and
// returns that. Instead it may return a cancelled run to wait for the end of.
func (d *Depot[T]) unname(ctx context.Context, name string, inUse func(context.Context) error) (string, *run, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.runs[name]; r != nil {
		if r.waiters == 0 {
			return "", r, nil
		}
		return "", nil, api.Errorf(api.CodeConflict, "%s is being made at the moment", name).
			WithHint("wait until that has ended, or cancel it")
	}
	if _, err := os.Lstat(d.path(name)); err != nil {
		return "", nil, fmt.Errorf("remove %s: %w", name, err)
	}
	// Who holds it may be on record already, and inUse can name it.
	if inUse != nil {
		if err := inUse(ctx); err != nil {
			return "", nil, err
		}
	}
	if d.holds[name] != nil {
		return "", nil, api.Errorf(api.CodeConflict, "%s is being taken into use at the moment", name).
			WithHint("see what uses it, or try again in a moment")
	}
	// No new directory to rename onto: on a full disk there may be no room.
	temp := d.path(tempPrefix + name + "-removed-" + rand.Text())
	if err := os.Rename(d.path(name), temp); err != nil {
		return "", nil, fmt.Errorf("remove %s: %w", name, err)
	}
	return temp, nil, nil
}
