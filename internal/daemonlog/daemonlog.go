// Package daemonlog keeps bangerd's log from growing without limit while bangerd
// runs: what is in it is, in the end, caused by guests, repositories and servers.
package daemonlog

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// MaxSize is how large a log may become before it is put aside, in bytes. With
// the one that was put aside before, a log takes twice as much.
const MaxSize = 4 << 20

// maxRecord is where a record is cut, in bytes. Sources cut what others say to
// much less; this is for those that forget to.
const maxRecord = 16 << 10

// cutMark ends a record that was cut.
const cutMark = " […]\n"

// Previous is where a log that was put aside is.
func Previous(path string) string { return path + ".1" }

// Writer returns what a process logs to whose standard error is stderr. If that
// is the file at path, opened for appending, as the command line starts bangerd,
// then a full log is put aside and stderr becomes a new file at path: for all of
// the process, so that the runtime's last words are in it as well. Several
// processes may have the same log: when one of them has put it aside, the others
// go on in the new one. Anything else, a terminal say, is written to as it is.
func Writer(stderr *os.File, path string) io.Writer {
	ours, err := stderr.Stat()
	if err != nil {
		return stderr
	}
	named, err := os.Stat(path)
	if err != nil || !os.SameFile(ours, named) {
		return stderr
	}
	return &writer{file: stderr, path: path}
}

type writer struct {
	mu   sync.Mutex
	file *os.File
	path string
}

// Write writes one record, or its beginning.
func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	record := p
	if len(record) > maxRecord {
		record = append(append([]byte(nil), p[:maxRecord-len(cutMark)]...), cutMark...)
	}
	if err := w.makeRoom(int64(len(record))); err != nil {
		return 0, err
	}
	if _, err := w.file.Write(record); err != nil {
		return 0, err
	}
	return len(p), nil
}

// makeRoom puts the log aside if there is no room in it for so many bytes more.
func (w *writer) makeRoom(more int64) error {
	if err := w.follow(); err != nil {
		return err
	}
	info, err := w.file.Stat()
	if err != nil {
		return fmt.Errorf("look at the log: %w", err)
	}
	if info.Size()+more <= MaxSize {
		return nil
	}
	if err := w.putAside(); err != nil {
		// Better no old records than no new ones.
		if err := w.file.Truncate(0); err != nil {
			return fmt.Errorf("cut the log: %w", err)
		}
	}
	return nil
}

// follow goes on in the log that is at its path now, if another process has put
// aside the one that this process has.
func (w *writer) follow() error {
	if w.isCurrent(w.file) {
		return nil
	}
	current, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer current.Close()
	return w.become(current)
}

func (w *writer) isCurrent(file *os.File) bool {
	ours, err := file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(w.path)
	return err == nil && os.SameFile(ours, named)
}

// putAside begins a new log, unless another process has just done so.
func (w *writer) putAside() error {
	// A lock belongs to what was opened together, which processes may have in
	// common: so the lock is of a file that is opened for it.
	old, err := os.OpenFile(w.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("lock the log: %w", err)
	}
	defer old.Close()
	if err := unix.Flock(int(old.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock the log: %w", err)
	}
	if !w.isCurrent(old) {
		return w.follow()
	}
	if err := os.Rename(w.path, Previous(w.path)); err != nil {
		return fmt.Errorf("put the log aside: %w", err)
	}
	return w.follow()
}

// become has the descriptor, which the runtime knows as 2, change its file.
func (w *writer) become(next *os.File) error {
	if err := unix.Dup3(int(next.Fd()), int(w.file.Fd()), unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("begin a new log: %w", err)
	}
	return nil
}
