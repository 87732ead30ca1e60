package rootless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guard"
	"banger/internal/procid"
)

// process identifies a process for all time: a pid alone is used again.
type process struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"start_time"` // field 22 of /proc/PID/stat, clock ticks since boot
}

// identify looks at the process that has this pid now.
func identify(pid int) (process, error) {
	start, err := procid.StartTime(pid)
	return process{pid, start}, err
}

// alive tells whether this very process still runs.
func (p process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	now, err := identify(p.PID)
	return err == nil && now == p
}

// wait returns when the process has ended, or ctx has. A process that can't be
// watched counts as ended.
func (p process) wait(ctx context.Context) {
	if !p.alive() {
		return
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return
	}
	// With the runtime's poller, which takes non-blocking descriptors only,
	// waiting costs nothing.
	_ = unix.SetNonblock(fd, true)
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	defer pidfd.Close()
	if !p.alive() {
		return // the descriptor may be of a later process
	}
	stop := context.AfterFunc(ctx, guard.Func("end the wait for a process", func() { _ = pidfd.Close() }))
	defer stop()
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return
	}
	// A pidfd becomes readable when its process ends, pidfd_open(2).
	_ = conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
}

// end asks the process to end, and makes it end if it doesn't within a second.
// It is no error if it has ended already.
func (p process) end(ctx context.Context) error {
	if !p.alive() {
		return nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	// The descriptor means one process; if p is alive still, it is p.
	if !p.alive() {
		return nil
	}
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end process %d: %w", p.PID, err)
		}
		ended, err := waitPidfd(ctx, fd, time.Second)
		if err != nil {
			return fmt.Errorf("end process %d: %w", p.PID, err)
		}
		if ended {
			// It may be a child of this process; then it is not to stay a zombie.
			_, _ = unix.Wait4(p.PID, nil, unix.WNOHANG, nil)
			return nil
		}
	}
	return fmt.Errorf("end process %d: it survived SIGKILL", p.PID)
}

// waitPidfd reports whether the process ended within the time.
func waitPidfd(ctx context.Context, fd int, limit time.Duration) (bool, error) {
	const slice = 20 * time.Millisecond // how late a cancelled ctx may be seen
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(slice.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
	return false, nil
}
