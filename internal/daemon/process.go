package daemon

import (
	"fmt"
	"os"
	"runtime"

	"banger/internal/api"
)

// process tells what this process takes of the host.
func process() (*api.Process, error) {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, fmt.Errorf("count open files: %w", err)
	}
	sizes, err := os.ReadFile("/proc/self/statm") // proc_pid_statm(5)
	if err != nil {
		return nil, fmt.Errorf("look at the memory: %w", err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(sizes), &size, &resident); err != nil {
		return nil, fmt.Errorf("look at the memory: %q: %w", sizes, err)
	}
	return &api.Process{
		Goroutines:  runtime.NumGoroutine(),
		OpenFiles:   len(files) - 1, // without the directory's own
		MemoryBytes: resident * int64(os.Getpagesize()),
	}, nil
}
