package vmm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"banger/internal/guard"
	"banger/internal/procid"
)

// Process is a process that can't be taken for a later one with the same pid:
// it is known by pid and start time, and held by a pidfd. Its methods are safe
// for concurrent use.
type Process struct {
	pid   int
	start uint64
	pidfd *os.File
	done  chan struct{}

	mu    sync.Mutex
	state *os.ProcessState // of a child that was reaped
}

// OpenProcess takes hold of a running process, which may be no child of ours. It
// returns ErrGone when no process has that pid, when the one that has it
// started at another time, or when it is a zombie. start is field 22 of
// /proc/PID/stat.
func OpenProcess(pid int, start uint64) (*Process, error) {
	p, err := FindProcess(pid)
	if err != nil {
		return nil, err
	}
	if p.start != start {
		return nil, errors.Join(ErrGone, p.Close())
	}
	return p, nil
}

// FindProcess is OpenProcess for whatever process has the pid now.
func FindProcess(pid int) (*Process, error) {
	p, stat, err := holdProcess(pid)
	if err != nil {
		return nil, err
	}
	if stat.Ended() {
		return nil, errors.Join(ErrGone, p.Close())
	}
	guard.Go("watch a process", p.watch)
	return p, nil
}

// holdProcess opens the pidfd first and identifies the process afterwards, so
// that the identity is that of the process behind the pidfd. The process may
// be a zombie.
func holdProcess(pid int) (*Process, procid.Stat, error) {
	var stat procid.Stat
	if pid <= 0 { // 0 and negative pids mean groups of processes elsewhere
		return nil, stat, ErrGone
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) { // EINVAL: the id of a thread
		return nil, stat, ErrGone
	}
	if err != nil {
		return nil, stat, fmt.Errorf("open pidfd of process %d: %w", pid, err)
	}
	// The runtime's poller takes non-blocking descriptors only. With it a
	// watched process costs a goroutine, and no thread.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, stat, errors.Join(fmt.Errorf("make pidfd of process %d non-blocking: %w", pid, err), unix.Close(fd))
	}
	p := &Process{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd"), done: make(chan struct{})}
	if stat, err = procid.Read(pid); err != nil {
		return nil, stat, errors.Join(err, p.Close())
	}
	p.start = stat.StartTime
	return p, stat, nil
}

// PID returns the process's id.
func (p *Process) PID() int { return p.pid }

// StartTime returns field 22 of /proc/PID/stat.
func (p *Process) StartTime() uint64 { return p.start }

// Done is closed when the process has ended; a zombie has. It may stay open
// after Close.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitState tells how a child ended. It is nil before Done is closed and for
// a process that some other process reaps.
func (p *Process) ExitState() *os.ProcessState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// watch waits for the end of a process that isn't reaped here. A pidfd becomes
// readable when its process ends, pidfd_open(2).
func (p *Process) watch() {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return // closed
	}
	if conn.Read(pidfdReadable) == nil {
		close(p.done)
	}
}

// ended tells whether the process has ended, also if nobody has seen it yet.
func (p *Process) ended() bool {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return false
	}
	ended := false
	err = conn.Control(func(fd uintptr) { ended = pidfdReadable(fd) })
	return err == nil && ended
}

func pidfdReadable(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// OrGone returns ErrGone instead of what follows from the end of the process.
func (p *Process) OrGone(err error) error {
	select {
	case <-p.done:
		return ErrGone
	default:
		return err
	}
}

// Signal sends a signal to the process, and never to another one that got its
// pid. It returns ErrGone when the process has ended.
func (p *Process) Signal(sig unix.Signal) error {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	var sent error
	err = conn.Control(func(fd uintptr) {
		sent = unix.PidfdSendSignal(int(fd), sig, nil, 0)
	})
	if errors.Is(sent, unix.ESRCH) {
		return ErrGone
	}
	if err := errors.Join(err, sent); err != nil {
		return fmt.Errorf("send %v to process %d: %w", sig, p.pid, err)
	}
	return nil
}

// Kill sends SIGKILL and waits until the process is gone or ctx ends.
func (p *Process) Kill(ctx context.Context) error {
	if err := p.Signal(unix.SIGKILL); err != nil && !errors.Is(err, ErrGone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of process %d: %w", p.pid, ctx.Err())
	}
}

// Close lets go of the process without ending it. A child is reaped all the
// same when it ends.
func (p *Process) Close() error { return p.pidfd.Close() }
