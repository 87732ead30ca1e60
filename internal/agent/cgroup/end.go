package cgroup

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// endPoll is how often it is looked whether commands have ended.
	endPoll = 50 * time.Millisecond
	// killTries bounds the rounds of killing, each of which gets all that the
	// one before didn't see being born.
	killTries = 100
)

// End ends all commands and what they have started: it asks them to, and ends
// by force what is still there after grace.
func (t *Tree) End(grace time.Duration) {
	// Interactive shells ignore SIGTERM, and stopped processes take nothing
	// before they are continued.
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGCONT} {
		t.signal(sig)
	}
	for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(endPoll) {
		if len(t.processes()) == 0 {
			return
		}
	}
	if t.write(commands+"/cgroup.kill", "1") == nil {
		return
	}
	for range killTries { // before Linux 5.14
		if !t.signal(unix.SIGKILL) {
			return
		}
	}
}

// signal sends a signal to all processes and tells whether there are any.
func (t *Tree) signal(sig unix.Signal) bool {
	pids := t.processes()
	for _, pid := range pids {
		_ = unix.Kill(pid, sig) // it may end at any time
	}
	return len(pids) > 0
}

// processes are those of all commands.
func (t *Tree) processes() []int {
	var pids []int
	// A group that vanishes meanwhile has no process.
	_ = fs.WalkDir(dirFS{t.top}, commands, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil //nolint:nilerr // see above
		}
		f, err := dirFS{t.top}.Open(path.Join(name, "cgroup.procs"))
		if err != nil {
			return nil //nolint:nilerr // see above
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if pid, err := strconv.Atoi(lines.Text()); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// dirFS is what is below an open directory that has no path.
type dirFS struct{ dir *os.File }

// Open opens a file below the directory for reading.
func (d dirFS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	for {
		fd, err := unix.Openat(int(d.dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}
