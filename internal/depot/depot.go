// Package depot keeps directories that take long to make, such as images and
// kernels: each has a name, is made at most once at a time, appears complete
// or not at all, and is never changed afterwards.
package depot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"banger/internal/api"
	"banger/internal/hosttool"

	"golang.org/x/sys/unix"
)

// tempPrefix starts the names of directories that are being made. Names of
// finished ones can't start with a dot.
const tempPrefix = ".tmp-"

// Report tells how far a build is: what it does now and how much of it is
// done, from 0 to 100. Reports never go back.
type Report func(detail string, percent int)

// Job is how to make one directory.
type Job struct {
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
	log  *slog.Logger

	mu   sync.Mutex
	runs map[string]*run // by name
}

// New returns a depot on dir. load reads what a finished directory is; its
// error matches fs.ErrNotExist if the directory, or a file in it, is missing.
func New[T any](dir string, load func(dir string) (T, error), log *slog.Logger) *Depot[T] {
	return &Depot[T]{dir: dir, load: load, log: log, runs: make(map[string]*run)}
}

// Get returns a finished directory. The error matches fs.ErrNotExist if there
// is none of that name.
func (d *Depot[T]) Get(name string) (T, error) {
	if !validName(name) {
		var none T
		return none, fmt.Errorf("name %q: %w", name, fs.ErrNotExist)
	}
	return d.load(filepath.Join(d.dir, name))
}

// List returns every finished directory, by name. A damaged one is left out
// and logged.
func (d *Depot[T]) List() ([]T, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list %s: %w", d.dir, err)
	}
	var all []T
	for _, e := range entries {
		if !e.IsDir() || !validName(e.Name()) {
			continue
		}
		one, err := d.load(filepath.Join(d.dir, e.Name()))
		if err != nil {
			d.log.Warn("leave out a damaged directory", "dir", filepath.Join(d.dir, e.Name()), "err", err)
			continue
		}
		all = append(all, one)
	}
	return all, nil
}

// Ensure returns the directory of that name and makes it by job if it is
// missing. Calls that overlap share one build, and all get its progress. A
// call whose ctx ends leaves; when the last one leaves, the build is
// cancelled, and that call returns once nothing of it is left.
func (d *Depot[T]) Ensure(ctx context.Context, name string, pf api.ProgressFunc, job Job) (T, error) {
	var none T
	if !validName(name) {
		return none, fmt.Errorf("name %q: %w", name, fs.ErrInvalid)
	}
	for {
		r, err := d.join(ctx, name, job)
		if r == nil {
			if err != nil {
				return none, err
			}
			return d.load(filepath.Join(d.dir, name))
		}
		if err != nil { // r is winding down; wait for its end and look again
			select {
			case <-r.done:
				continue
			case <-ctx.Done():
				return none, context.Cause(ctx)
			}
		}
		if err := d.wait(ctx, r, pf); err != nil {
			return none, err
		}
		return d.load(filepath.Join(d.dir, name))
	}
}

// errWindingDown says that a run was cancelled and can't be joined.
var errWindingDown = errors.New("the build was cancelled")

// join returns the run to wait for, having started it if need be; nil if the
// directory is there already, or can't be looked at.
func (d *Depot[T]) join(ctx context.Context, name string, job Job) (*run, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.runs[name]; r != nil {
		if r.waiters == 0 {
			return r, errWindingDown
		}
		r.waiters++
		return r, nil
	}
	_, err := d.load(filepath.Join(d.dir, name))
	if err == nil {
		return nil, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	// The build belongs to all that wait for it, so it must not end with the
	// first one's context.
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &run{waiters: 1, cancel: cancel, done: make(chan struct{}), progress: newProgress(job.Phase, job.Title)}
	d.runs[name] = r
	go d.run(runCtx, name, job, r)
	return r, nil
}

// wait waits for r's end or leaves it when ctx ends.
func (d *Depot[T]) wait(ctx context.Context, r *run, pf api.ProgressFunc) error {
	unsubscribe := r.progress.subscribe(pf)
	defer unsubscribe()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
	}
	d.mu.Lock()
	r.waiters--
	last := r.waiters == 0
	d.mu.Unlock()
	if last {
		r.cancel()
		<-r.done
	}
	return context.Cause(ctx)
}

// run is one build under way.
type run struct {
	waiters  int // guarded by Depot.mu; 0 means cancelled
	cancel   context.CancelFunc
	progress *progress
	done     chan struct{} // closed at the end
	err      error         // set before done is closed
}

// run makes the directory and ends r.
func (d *Depot[T]) run(ctx context.Context, name string, job Job, r *run) {
	defer r.cancel()
	start := time.Now()
	stop := r.progress.start()
	err := d.build(ctx, name, job.Build, r.progress.report)
	stop()
	log := d.log.With("name", name, "phase", job.Phase, "took", time.Since(start).Round(time.Millisecond))
	if err != nil {
		log.Error("build", "err", err)
	} else {
		r.progress.finish(time.Since(start))
		log.Info("built")
	}
	d.mu.Lock()
	delete(d.runs, name)
	r.err = err
	d.mu.Unlock()
	close(r.done)
}

// build makes the directory under a temporary name and renames it when it is
// complete and on disk.
func (d *Depot[T]) build(ctx context.Context, name string, fill func(context.Context, string, Report) error, report Report) (err error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("create %s: %w", d.dir, err)
	}
	temp, err := os.MkdirTemp(d.dir, tempPrefix+name+"-")
	if err != nil {
		return hosttool.NoSpace(fmt.Errorf("create a directory: %w", err), d.dir)
	}
	defer func() {
		if err != nil {
			err = hosttool.NoSpace(err, d.dir)
			if rmErr := remove(context.WithoutCancel(ctx), temp); rmErr != nil {
				err = errors.Join(err, rmErr)
			}
		}
	}()
	if err := fill(ctx, temp, report); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	report("writing to disk", 99)
	if err := syncTree(temp); err != nil {
		return fmt.Errorf("write %s to disk: %w", temp, err)
	}
	final := filepath.Join(d.dir, name)
	if _, err := os.Lstat(final); err == nil {
		// Something is damaged, or it would have been loaded.
		d.log.Warn("replace a damaged directory", "dir", final)
		aside := temp + "-damaged"
		if err := os.Rename(final, aside); err != nil {
			return fmt.Errorf("move the damaged %s away: %w", final, err)
		}
		defer func() { err = errors.Join(err, remove(context.WithoutCancel(ctx), aside)) }()
	}
	if err := os.Rename(temp, final); err != nil {
		return fmt.Errorf("put %s into its place: %w", final, err)
	}
	return syncDir(d.dir)
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
		dir := filepath.Join(d.dir, e.Name())
		d.log.Info("remove what an interrupted build left", "dir", dir)
		errs = append(errs, remove(ctx, dir))
	}
	return errors.Join(errs...)
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

// validName tells whether a name can be a directory here. It keeps a request
// for "../x" inside the depot.
func validName(name string) bool {
	ok, err := regexp.MatchString(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`, name)
	return err == nil && ok
}
