package filelock

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

func TestAcquire(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := Acquire(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	if _, err := Acquire(ctx, path); !errors.Is(err, enough) {
		t.Errorf("a lock that is held: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		f, err := Acquire(t.Context(), path)
		if err == nil {
			err = f.Close()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Errorf("a lock that is held: %v", err)
	case <-t.Context().Done():
	default:
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	if _, err := Acquire(t.Context(), t.TempDir()+"/no/lock"); err == nil {
		t.Error("a file that can't be made is locked")
	}
}
