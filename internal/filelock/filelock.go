// Package filelock waits for locks of files that processes hold while they work
// on what the file stands for (flock(2)). A lock ends with its process.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// interval is how often a waiting process looks whether it is its turn: flock
// can't be told to give up waiting.
const interval = 20 * time.Millisecond

// Acquire opens the file, which it makes if need be, and locks it. Closing the
// file gives the lock up. It fails as Wait does.
func Acquire(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := Wait(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Wait locks an open file or directory exclusively as soon as nobody else has it
// locked. It fails with ctx's cause if ctx ends first.
func Wait(ctx context.Context, f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(interval):
		}
	}
}
