package firecracker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/vmm"
)

// Names of the files that a Firecracker writes.
const (
	logName     = "firecracker.log"     // its messages
	metricsName = "firecracker.metrics" // counters, a line of JSON per minute
)

// Firecracker writes its log and metrics at an offset of its own, not in
// append mode, and guests can make it log. Such a file can't be cut as
// vmm.BoundLog does; instead the disk blocks of all but its end are given back
// to the filesystem. It reads as zeros there, and only its end is ever read.
const (
	punchAbove    = 4 << 20   // bytes on disk
	punchKeep     = 256 << 10 // bytes
	punchInterval = 10 * time.Second
)

// punchLog gives back the beginning of the file at path if it takes too much
// of the disk. A missing file is no error.
func punchLog(path string) error {
	f, err := openLog(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bound log: %w", err)
	}
	defer f.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return fmt.Errorf("bound log %s: %w", path, err)
	}
	if stat.Blocks*512 <= punchAbove { // st_blocks counts 512 bytes, stat(2)
		return nil
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, stat.Size-punchKeep)
	if err != nil {
		return fmt.Errorf("give back the beginning of log %s: %w", path, err)
	}
	return nil
}

// openLog opens a file that Firecracker writes, and nothing that a jailed one
// may have put in its place.
func openLog(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0) // a pipe would block
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %s: it is no regular file", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// readLogTail returns at most the last n bytes of a log, and nothing of one
// that can't be read: it serves messages.
func readLogTail(path string, n int64) string {
	f, err := openLog(path, os.O_RDONLY)
	if err != nil {
		return ""
	}
	defer f.Close()
	return vmm.Tail(f, n)
}

// createLogs makes empty log files in dir that nobody else can read;
// Firecracker would open existing ones at their beginning, and make new ones
// readable for everybody.
func createLogs(dir string) error {
	for _, name := range []string{logName, metricsName} {
		path := filepath.Join(dir, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove old log: %w", err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return fmt.Errorf("create log: %w", err)
		}
	}
	return nil
}

// keepOldConsole moves the console of the last boot out of the way, as
// vmm.Spawn empties the file.
func keepOldConsole(console string) error {
	info, err := os.Stat(console)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err == nil {
		err = os.Rename(console, vmm.PreviousLog(console))
	}
	if err != nil {
		return fmt.Errorf("keep the console of the last boot: %w", err)
	}
	return nil
}
