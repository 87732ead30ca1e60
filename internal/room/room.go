// Package room keeps work from filling the host's disk. How much comes is for
// registries, servers and guests to say, and a host whose disk is full has more
// to lose than the work.
package room

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/guard"
)

// Reserve is what is left free on a file system, in bytes.
const Reserve = 512 << 20

// interval is how often the room is looked at. A fast disk takes less than
// Reserve between two looks.
const interval = 200 * time.Millisecond

// Limit is what work may write to one file system.
type Limit struct {
	Dir  string                          // on that file system
	Hint string                          // what to do when it is full; says what was left there
	Free func(dir string) (int64, error) // nil: Free
}

// FullError says that there is no room but the reserve. It is an api.CodeHost
// error.
type FullError struct{ err *api.Error }

func (e *FullError) Error() string { return e.err.Error() }
func (e *FullError) Unwrap() error { return e.err }

// Watch returns a context that is cancelled when there is no room but the
// reserve; its cause is a FullError then. As long as the room can't be found
// out, there is no limit.
func (l Limit) Watch(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	look := func() {
		if left, err := l.left(); err == nil && left < 0 {
			cancel(l.full("the disk that holds %s is full, but for the last %d MiB, which banger leaves free", l.Dir, Reserve>>20))
		}
	}
	look()
	guard.Go("watch the room on a disk", func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-ticker.C:
				look()
			}
		}
	})
	return ctx, func() { cancel(nil) }
}

// Check returns a FullError if there is no room for the sizes, which are in
// bytes.
func (l Limit) Check(sizes ...int64) error {
	left, err := l.left()
	if err != nil {
		return nil // as in Watch
	}
	for have := left; len(sizes) > 0; sizes = sizes[1:] {
		if sizes[0] > have { // no sum, which could be too large for a number
			return l.full("the disk that holds %s has room for %d MiB, which isn't enough", l.Dir, max(left, 0)>>20)
		}
		have -= sizes[0]
	}
	return nil
}

func (l Limit) full(format string, args ...any) error {
	return &FullError{api.Errorf(api.CodeHost, format, args...).WithHint("%s", l.Hint)}
}

// left returns how many bytes may still be written.
func (l Limit) left() (int64, error) {
	free := l.Free
	if free == nil {
		free = Free
	}
	n, err := free(l.Dir)
	return n - Reserve, err
}

// Free returns how many bytes this user can still write below dir.
func Free(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, fmt.Errorf("look at the room on the disk: %w", err)
	}
	return int64(stat.Bavail) * stat.Bsize, nil //nolint:gosec // disks have less than 8 EiB
}
