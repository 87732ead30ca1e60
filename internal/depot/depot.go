// Package depot keeps directories that take long to make, such as images and
// kernels: each has a name, is made at most once at a time, appears complete
// or not at all, and is never changed afterwards, only replaced or removed as
// a whole.
package depot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"banger/internal/naming"
	"banger/internal/room"
)

// tempPrefix starts the names of directories that are being made. Names of
// finished ones can't start with a dot.
const tempPrefix = ".tmp-"

// Report tells how far a build is: what it does now and how much of it is
// done, from 0 to 100. Reports never go back.
type Report func(detail string, percent int)

// Job is how to make one directory.
type Job struct {
	// Key is what the job makes it of. Overlapping calls for one name share a
	// build if their keys are equal, else the later one gets an
	// api.CodeConflict error.
	Key   string
	Phase string // stable name for api.Progress
	Title string // for people
	// Build fills dir, which exists and is empty. When it returns, whatever it
	// needed only meanwhile must be gone from dir.
	Build func(ctx context.Context, dir string, report Report) error
}

// Depot keeps the directories below one directory. T describes one of them.
// Only one process may use a directory at a time.
type Depot[T any] struct {
	dir  string
	load func(dir string) (T, error)
	free func(dir string) (int64, error) // bytes that can be written there
	log  *slog.Logger

	mu    sync.Mutex
	runs  map[string]*run  // by name
	holds map[string]*hold // by name
}

// New returns a depot on dir. load reads what a finished directory is; its
// error matches fs.ErrNotExist if the directory, or a file in it, is missing.
func New[T any](dir string, load func(dir string) (T, error), log *slog.Logger) *Depot[T] {
	return &Depot[T]{
		dir: dir, load: load, free: room.Free, log: log,
		runs: make(map[string]*run), holds: make(map[string]*hold),
	}
}

// Get returns a finished directory. The error matches fs.ErrNotExist if there
// is none of that name.
func (d *Depot[T]) Get(name string) (T, error) {
	if !naming.IsStored(name) {
		var none T
		return none, fmt.Errorf("name %q: %w", name, fs.ErrNotExist)
	}
	return d.load(d.path(name))
}

// List returns every finished directory, by name. A damaged one is left out.
func (d *Depot[T]) List() ([]T, error) {
	all, _, err := d.Scan()
	return all, err
}

// Damaged is a directory that can't be read.
type Damaged struct {
	Name string
	Err  error
}

// Scan returns every finished directory, by name, and the damaged ones.
func (d *Depot[T]) Scan() (all []T, damaged []Damaged, err error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("list %s: %w", d.dir, err)
	}
	for _, e := range entries {
		if !e.IsDir() || !naming.IsStored(e.Name()) {
			continue
		}
		one, err := d.load(d.path(e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			if _, gone := os.Lstat(d.path(e.Name())); errors.Is(gone, fs.ErrNotExist) {
				continue // removed meanwhile
			}
		}
		if err != nil {
			damaged = append(damaged, Damaged{e.Name(), err})
			continue
		}
		all = append(all, one)
	}
	return all, damaged, nil
}

// Describe returns a description of every finished directory and of every damaged
// one, by name. A damaged one takes none of the others away.
func Describe[T, D any](d *Depot[T], whole func(T) (D, error), damaged func(Damaged) (D, error), name func(D) string) ([]D, error) {
	all, broken, err := d.Scan()
	if err != nil {
		return nil, err
	}
	described := make([]D, 0, len(all)+len(broken))
	for _, one := range all {
		this, err := whole(one)
		if err != nil {
			return nil, err
		}
		described = append(described, this)
	}
	for _, one := range broken {
		this, err := damaged(one)
		if err != nil {
			return nil, err
		}
		described = append(described, this)
	}
	slices.SortFunc(described, func(a, b D) int { return strings.Compare(name(a), name(b)) })
	return described, nil
}

// Clean removes what builds of a killed process left behind. Call it before
// anything else, at start-up.
func (d *Depot[T]) Clean(ctx context.Context) error {
	entries, err := os.ReadDir(d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", d.dir, err)
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		dir := d.path(e.Name())
		d.log.Info("remove what an interrupted build left", "dir", dir)
		errs = append(errs, remove(ctx, dir))
	}
	return errors.Join(errs...)
}

// path returns where the directory of a name is.
func (d *Depot[T]) path(name string) string { return filepath.Join(d.dir, name) }

// Empty removes what is in a directory, for a Job that begins anew.
func Empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
