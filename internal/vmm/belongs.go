package vmm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// Places are the directories by which the processes of a VM are known, whatever
// started them: a VMM works in RuntimeDir or, if it is jailed, has a root
// directory (chroot(2)) somewhere below StateDir.
type Places struct {
	StateDir   string
	RuntimeDir string
}

// Has tells whether a process belongs to the VM. It fails if the process can't
// be looked into, or has ended.
func (p Places) Has(pid int) (bool, error) {
	cwd := fmt.Sprintf("/proc/%d/cwd", pid)
	link, err := os.Readlink(cwd)
	if err != nil {
		return false, fmt.Errorf("look at process %d: %w", pid, err)
	}
	// Directories for sockets get removed under what works in them, at a log-out
	// for instance.
	if same(cwd, p.RuntimeDir) || link == p.RuntimeDir+" (deleted)" {
		return true, nil
	}
	return p.holdRoot(fmt.Sprintf("/proc/%d/root", pid)), nil
}

// Processes returns the processes of the VM.
func (p Places) Processes() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("search for the VMM: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ours, err := p.Has(pid); err == nil && ours {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// holdRoot compares directories, since a link to the root of another mount
// namespace reads as "/".
func (p Places) holdRoot(root string) bool {
	if _, err := os.Stat(root); err != nil || same(root, "/") {
		return false
	}
	errFound := errors.New("found")
	err := filepath.WalkDir(p.StateDir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fs.SkipDir // it isn't there, or not any more
		case d.IsDir() && same(root, path):
			return errFound
		}
		return nil
	})
	return errors.Is(err, errFound)
}

// same tells whether both paths lead to one file.
func same(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(x, y)
}
