package depot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"banger/internal/api"
	"banger/internal/guard"
	"banger/internal/naming"
	"banger/internal/room"
)

// Ensure returns the directory of that name and makes it by job if it is
// missing. Calls that overlap share one build, and all get its progress. A
// call whose ctx ends leaves; when the last one leaves, the build is
// cancelled, and that call returns once nothing of it is left. While a
// directory is being replaced, Ensure returns the old one.
func (d *Depot[T]) Ensure(ctx context.Context, name string, pf api.ProgressFunc, job Job) (T, error) {
	var none T
	if !naming.IsStored(name) {
		return none, fmt.Errorf("name %q: %w", name, fs.ErrInvalid)
	}
	missing := func() (bool, error) {
		_, err := d.load(d.path(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		return err != nil, nil
	}
	return d.make(ctx, name, pf, job, missing, nil)
}

// Replace makes the directory of that name by job, even if it is there, and
// puts it into the old one's place in one step. Calls of Replace and Ensure
// that overlap share one build, as with Ensure.
//
// If there is an old directory, inUse, unless nil, is asked before the work
// and again right before the exchange, with nobody able to Hold the directory
// meanwhile; its error ends Replace, and the old one stays. inUse must not
// call Ensure, Replace, Remove or Hold of the same depot.
func (d *Depot[T]) Replace(ctx context.Context, name string, pf api.ProgressFunc, inUse func(context.Context) error, job Job) (T, error) {
	var none T
	if !naming.IsStored(name) {
		return none, fmt.Errorf("name %q: %w", name, fs.ErrInvalid)
	}
	there, err := exists(d.path(name))
	if err != nil {
		return none, err
	}
	if there && inUse != nil {
		if err := inUse(ctx); err != nil {
			return none, err
		}
	}
	always := func() (bool, error) { return true, nil }
	return d.make(ctx, name, pf, job, always, inUse)
}

// make joins or starts a build if one is needed, and returns the directory.
func (d *Depot[T]) make(ctx context.Context, name string, pf api.ProgressFunc, job Job,
	needed func() (bool, error), inUse func(context.Context) error) (T, error) {
	var none T
	for {
		r, err := d.join(ctx, name, job, needed, inUse)
		switch {
		case errors.Is(err, errWindingDown):
			if err := r.ended(ctx); err != nil {
				return none, err
			}
			continue // look again
		case err != nil:
			return none, err
		case r != nil:
			if err := d.wait(ctx, r, pf); err != nil {
				return none, err
			}
		}
		return d.load(d.path(name))
	}
}

// errWindingDown says that a run was cancelled and can't be joined.
var errWindingDown = errors.New("the build was cancelled")

// join returns the run to wait for, having started it if need be; nil if none
// is needed. With errWindingDown the run is one to wait for the end of.
func (d *Depot[T]) join(ctx context.Context, name string, job Job,
	needed func() (bool, error), inUse func(context.Context) error) (*run, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	need, err := needed()
	if err == nil && !need {
		return nil, nil
	}
	if r := d.runs[name]; r != nil {
		switch {
		case r.waiters == 0:
			return r, errWindingDown
		case r.key != job.Key:
			return nil, api.Errorf(api.CodeConflict, "%s is being made of something else at the moment", name).
				WithHint("wait until that has ended, or choose another name")
		}
		r.waiters++
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	// The build belongs to all that wait for it, so it must not end with the
	// first one's context.
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &run{
		key:      job.Key,
		inUse:    inUse,
		waiters:  1,
		cancel:   cancel,
		done:     make(chan struct{}),
		progress: newProgress(job.Phase, job.Title),
	}
	d.runs[name] = r
	guard.Go("make a directory", func() { d.run(runCtx, name, job, r) })
	return r, nil
}

// wait waits for r's end or leaves it when ctx ends.
func (d *Depot[T]) wait(ctx context.Context, r *run, pf api.ProgressFunc) error {
	unsubscribe := r.progress.subscribe(pf)
	defer unsubscribe()
	if err := r.ended(ctx); err == nil {
		return r.err
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
	key      string                      // Job.Key
	inUse    func(context.Context) error // may be nil
	waiters  int                         // guarded by Depot.mu; 0 means cancelled
	cancel   context.CancelFunc
	progress *progress
	done     chan struct{} // closed at the end
	err      error         // set before done is closed
}

// ended waits for r's end.
func (r *run) ended(ctx context.Context) error {
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run makes the directory and ends r.
func (d *Depot[T]) run(ctx context.Context, name string, job Job, r *run) {
	defer r.cancel()
	start := time.Now()
	stop := r.progress.start()
	// Jobs read what registries, servers and guests sent.
	err := guard.Run("make a directory", func() error { return d.build(ctx, name, job.Build, r) })
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

// build makes the directory under a temporary name and puts it into its place
// when it is complete and on disk.
func (d *Depot[T]) build(ctx context.Context, name string, fill func(context.Context, string, Report) error, r *run) (err error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("create %s: %w", d.dir, err)
	}
	temp, err := os.MkdirTemp(d.dir, tempPrefix+name+"-")
	if err != nil {
		return room.Explain(fmt.Errorf("create a directory: %w", err), d.dir)
	}
	// After the exchange temp is the old directory.
	defer func() {
		rmErr := remove(context.WithoutCancel(ctx), temp)
		if err != nil {
			err = errors.Join(room.Explain(err, d.dir), rmErr)
		} else if rmErr != nil {
			d.log.Warn("leave the rest of a replaced directory to the next start", "dir", temp, "err", rmErr)
		}
	}()
	ctx, stop := room.Limit{
		Dir: d.dir, Free: d.free,
		Hint: "make room there and try again; nothing was left behind",
	}.Watch(ctx)
	defer stop()
	err = fill(ctx, temp, r.progress.report)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	r.progress.report("writing to disk", 99)
	if err := syncTree(temp); err != nil {
		return fmt.Errorf("write %s to disk: %w", temp, err)
	}
	if err := d.place(ctx, temp, name, r); err != nil {
		return err
	}
	return syncDir(d.dir)
}
