package vmm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"banger/internal/procid"
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
	if same(cwd, p.RuntimeDir) || p.wasRuntimeDir(link) {
		return true, nil
	}
	return p.holdRoot(fmt.Sprintf("/proc/%d/root", pid)), nil
}

// wasRuntimeDir tells whether a process works in what was RuntimeDir until it was
// removed under it, as at a log-out. What holds such directories may be unmounted
// as well; then the link lacks the path to there.
func (p Places) wasRuntimeDir(link string) bool {
	path, deleted := strings.CutSuffix(link, " (deleted)")
	return deleted && strings.HasPrefix(path, "/") && strings.HasSuffix(p.RuntimeDir, path)
}

// Processes returns the processes of the VM: the VMM and, if there is one, its
// jailer. They have no terminal, unlike those of a user who looks around there.
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
		if ours, err := p.Has(pid); err != nil || !ours {
			continue
		}
		if stat, err := procid.Read(pid); err == nil && !stat.Terminal {
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
