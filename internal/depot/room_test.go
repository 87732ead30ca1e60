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
)

// A build that would fill the host's disk is stopped, and nothing of it stays.
func TestBuildLeavesRoom(t *testing.T) {
	for name, atOnce := range map[string]bool{"at the start": true, "meanwhile": false} {
		t.Run(name, func(t *testing.T) {
			d, dir := newDepot(t)
			var free atomic.Int64
			free.Store(reserve)
			d.free = func(string) (int64, error) { return free.Load(), nil }
			if atOnce {
				free.Store(reserve - 1)
			}
			_, err := d.Ensure(t.Context(), "big", nil, Job{Build: func(ctx context.Context, dir string, _ Report) error {
				if err := os.WriteFile(filepath.Join(dir, "content"), []byte("x"), 0o600); err != nil {
					return err
				}
				free.Store(reserve - 1)
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

func TestFreeSpace(t *testing.T) {
	if free, err := freeSpace(t.TempDir()); err != nil || free <= 0 {
		t.Errorf("%d, %v", free, err)
	}
	if _, err := freeSpace("/nonexistent"); err == nil {
		t.Error("what isn't there has room")
	}
}
