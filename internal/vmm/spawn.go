package vmm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guard"
)

// Command is a VMM's command line and surroundings.
type Command struct {
	Path string   // absolute
	Args []string // without the program's name
	Dir  string   // working directory
	Log  string   // file that receives what it prints; emptied first
	// MaxFile is how large it may make any file, in bytes; see LargestFile. It
	// ends when it goes on writing there. 0 is no limit.
	MaxFile int64
}

// LargestFile returns how large a VMM may have to make a file, in bytes: its
// largest disk, or its memory, which may be a file without a name. Its logs end
// there, too, if a guest makes them grow while no bangerd is there for BoundLog.
func LargestFile(spec Spec) int64 {
	largest := max(spec.MemoryMiB<<20, 16*logMax)
	for _, drive := range spec.Drives {
		if info, err := os.Stat(drive.Path); err == nil && !drive.ReadOnly { // the VMM reports what is wrong with it
			largest = max(largest, info.Size())
		}
	}
	return largest
}

// Spawn starts a process that outlives this one: it has a session of its own,
// so that neither a terminal's hang-up nor Ctrl-C reaches it, and it inherits
// no descriptor besides its log. The log is opened for appending, so that
// BoundLog may cut it.
func Spawn(c Command) (*Process, error) {
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	defer log.Close()

	cmd := exec.Command(c.Path, c.Args...) //nolint:noctx // it outlives whatever asked for it
	cmd.Dir = c.Dir
	cmd.Stdout, cmd.Stderr = log, log
	// Messages are matched by their English text; and a VMM has no business
	// with the credentials that a user's environment holds.
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := shutInherited(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(c.Path), err)
	}
	// The pid can't be taken by another process before Wait has reaped it.
	p, _, err := holdProcess(cmd.Process.Pid)
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	if c.MaxFile > 0 {
		limit := unix.Rlimit{Cur: uint64(c.MaxFile), Max: uint64(c.MaxFile)}
		if err := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
			return nil, errors.Join(fmt.Errorf("limit the files of %s: %w", filepath.Base(c.Path), err), p.Close(), cmd.Process.Kill(), cmd.Wait())
		}
	}
	guard.Go("reap a process", func() { p.reap(cmd) })
	return p, nil
}

// shutInherited keeps children from inheriting descriptors that this process
// was itself given, say by a user's shell. Those that Go opens are marked
// already. Kernels before 5.11 can't do it.
func shutInherited() error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("mark inherited descriptors: %w", err)
	}
	return nil
}

// reap waits for a child and notes how it ended.
func (p *Process) reap(cmd *exec.Cmd) {
	// Wait's error repeats what ProcessState says: the log is a plain file, so
	// there is no copying that could go wrong.
	_ = cmd.Wait()
	p.mu.Lock()
	p.state = cmd.ProcessState
	p.mu.Unlock()
	close(p.done)
}

// killTimeout is how long a killed process may take to go; one that is in the
// middle of a disk write can't be interrupted.
const killTimeout = 10 * time.Second

// KillAnyway is Kill for cleaning up after work whose context may have ended.
func (p *Process) KillAnyway(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	return p.Kill(ctx)
}
