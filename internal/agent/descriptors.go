package agent

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// keepDescriptors keeps the files that this process was given from what it
// starts. Those that it opens itself are kept by Go.
func keepDescriptors() error {
	const first = 3 // behind standard input, output and errors
	err := unix.CloseRange(first, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) { // before Linux 5.9, 5.11
		return fmt.Errorf("keep the agent's files to itself: %w", err)
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		return nil // PID 1 has no /proc yet, and was given no files
	}
	if err != nil {
		return fmt.Errorf("keep the agent's files to itself: %w", err)
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
