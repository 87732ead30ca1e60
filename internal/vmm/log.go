package vmm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/google/renameio/v2"
)

// A guest can write to its console without end, and VMMs write it to a plain
// file. Such a file is kept small from outside: once it is larger than logMax,
// its last logKeep bytes are copied to PreviousLog(path) and it is emptied.
// This needs a writer in append mode; another one would go on at its old
// offset and leave a hole. Between two looks (logInterval) the file can grow
// past logMax by what the guest writes meanwhile, and what is written between
// the copy and the cut is lost.
const (
	logMax      = 4 << 20 // bytes
	logKeep     = 1 << 20 // bytes
	logInterval = 3 * time.Second
)

// PreviousLog is where BoundLog keeps the last part of what it cut from path.
// All that is left of a log is this file, if there, followed by path.
func PreviousLog(path string) string { return path + ".1" }

// BoundLog cuts the log at path if it has become too large. A missing file is
// no error.
func BoundLog(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bound log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("bound log: %w", err)
	}
	if info.Size() <= logMax {
		return nil
	}
	if err := keepTail(f, info.Size()-logKeep, PreviousLog(path)); err != nil {
		return fmt.Errorf("keep the end of %s: %w", path, err)
	}
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("cut %s: %w", path, err)
	}
	return nil
}

// keepTail copies f from offset on to the file at path. It reads at most twice
// logKeep, so that a guest that writes faster than it copies can't fill the
// host's disk.
func keepTail(f *os.File, offset int64, path string) error {
	kept, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o600))
	if err != nil {
		return err
	}
	defer func() { _ = kept.Cleanup() }() // does nothing after the replacement
	if _, err := io.Copy(kept, io.NewSectionReader(f, offset, 2*logKeep)); err != nil {
		return err
	}
	return kept.CloseAtomicallyReplace()
}

// KeepLogsBounded calls BoundLog on the logs now and every few seconds, until
// ctx ends.
func KeepLogsBounded(ctx context.Context, log *slog.Logger, paths ...string) {
	KeepSmall(ctx, log, logInterval, BoundLog, paths...)
}

// KeepSmall calls bound for each log, now and at every interval, until ctx ends.
func KeepSmall(ctx context.Context, log *slog.Logger, interval time.Duration, bound func(path string) error, paths ...string) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	said := make(map[string]bool)
	for {
		for _, path := range paths {
			if err := bound(path); err != nil && !said[path] { // it would be said each time
				said[path] = true
				log.Warn("a log can't be kept small", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// ReadTail returns at most the last n bytes of the file at path, and nothing
// of a file that can't be read: it serves error messages.
func ReadTail(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	return Tail(f, n)
}

// Tail is ReadTail for an open file.
func Tail(f *os.File, n int64) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	tail, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-n), n))
	if err != nil {
		return ""
	}
	return string(tail)
}
