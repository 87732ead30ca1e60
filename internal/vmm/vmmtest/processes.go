package vmmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// waitGone polls until nothing of a directory's VMM is left; see processesIn.
func waitGone(ctx context.Context, dir string) error {
	for {
		pids, err := processesIn(dir)
		if err != nil || len(pids) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes %v are left in %s", pids, dir)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// processesIn returns the processes whose working directory is dir, which is
// how the suite knows a VMM.
func processesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []string
	for _, entry := range entries {
		cwd, err := os.Readlink("/proc/" + entry.Name() + "/cwd")
		if err != nil || cwd != dir { // ended meanwhile, somebody else's, or no process
			continue
		}
		stat, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err == nil && !bytes.Contains(stat, []byte(") Z ")) {
			pids = append(pids, entry.Name())
		} else if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return pids, nil
}
