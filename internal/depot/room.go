package depot

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/guard"
)

// reserve is what a build leaves free on its filesystem, in bytes. How large
// the result becomes is for registries, servers and guests to say, and a host
// whose disk is full has more to lose than a build.
const reserve = 512 << 20

// roomInterval is how often the room is looked at. A fast disk takes less than
// reserve between two looks.
const roomInterval = 200 * time.Millisecond

// watchRoom cancels a build when its filesystem has no room but the reserve. The
// returned context's cause says so then, as an api.CodeHost error.
func (d *Depot[T]) watchRoom(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	look := func() {
		free, err := d.free(d.dir)
		if err == nil && free < reserve {
			cancel(api.Errorf(api.CodeHost, "the disk that holds %s is full, but for the last %d MiB, which banger leaves free", d.dir, reserve>>20).
				WithHint("make room there and try again; nothing was left behind"))
		}
	}
	look()
	guard.Go("watch the room for a build", func() {
		ticker := time.NewTicker(roomInterval)
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

// freeSpace returns how many bytes this user can still write below dir.
func freeSpace(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, fmt.Errorf("look at the room on the disk: %w", err)
	}
	return int64(stat.Bavail) * stat.Bsize, nil //nolint:gosec // disks have less than 8 EiB
}
