package depot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"banger/internal/api"
	"banger/internal/room"
)

// A build that would fill the host's disk is stopped, and nothing of it stays.
func TestBuildLeavesRoom(t *testing.T) {
	for name, atOnce := range map[string]bool{"at the start": true, "meanwhile": false} {
		t.Run(name, func(t *testing.T) {
			d, dir := newDepot(t)
			var free atomic.Int64
			free.Store(room.Reserve)
			d.free = func(string) (int64, error) { return free.Load(), nil }
			if atOnce {
				free.Store(room.Reserve - 1)
			}
			_, err := d.Ensure(t.Context(), "big", nil, Job{Build: func(ctx context.Context, dir string, _ Report) error {
				if err := os.WriteFile(filepath.Join(dir, "content"), []byte("x"), 0o600); err != nil {
					return err
				}
				free.Store(room.Reserve - 1)
				<-ctx.Done()
				return ctx.Err()
			}})
			if !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), "512 MiB") {
				t.Errorf("got %v", err)
			}
			checkEmpty(t, dir)
		})
	}
}
