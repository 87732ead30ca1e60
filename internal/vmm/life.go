package vmm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"banger/internal/guard"
	"banger/internal/guest"
)

// Life is what the machines of all drivers have in common: a VMM's process, of
// which the driver's goroutines are told when it ends, or when this bangerd lets
// go of it. A driver's machine embeds it.
type Life struct {
	Spec    Spec
	Process *Process
	Log     *slog.Logger

	program string // in words, "QEMU"
	handle  Handle
	oom     uint64 // OOMKills at the beginning
	done    chan struct{}

	// The goroutines live until stop is called.
	ctx   context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup

	closing  sync.Once
	closeErr error

	mu     sync.Mutex
	killed bool
	reason string // valid once done is closed
}

// End is what is known of a VMM's end, whatever its driver.
type End struct {
	Killed   bool             // by Life.Kill
	OOMKills bool             // the host's kernel has killed processes for want of memory meanwhile
	State    *os.ProcessState // nil if it was no child
	Console  string           // its end, ConsoleTail
}

// Signal returns what has killed the VMM, 0 if that isn't known or wasn't a
// signal.
func (e End) Signal() syscall.Signal {
	if e.State == nil {
		return 0
	}
	if status, ok := e.State.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return status.Signal()
	}
	return 0
}

// ByOOM tells whether it was probably the kernel that killed the VMM, for want
// of memory.
func (e End) ByOOM() bool { return e.Signal() == syscall.SIGKILL && e.OOMKills }

// NewLife begins the life of a machine, whose program is called that in messages.
// Nothing watches it before Watch is called.
func NewLife(program string, spec Spec, h Handle, process *Process, log *slog.Logger) *Life {
	ctx, stop := context.WithCancel(context.Background())
	return &Life{
		Spec: spec, Process: process, Log: log.With("vm", spec.Name, "pid", h.PID),
		program: program, handle: h, oom: OOMKills(), done: make(chan struct{}), ctx: ctx, stop: stop,
	}
}

// Context ends when the VMM has ended and all is cleared up behind it, or when
// the machine is let go of.
func (l *Life) Context() context.Context { return l.ctx }

// Task runs f in the background. It has to return when Context has ended.
func (l *Life) Task(what string, f func()) { l.tasks.Go(guard.Func(what, f)) }

// Watch waits, in the background, for the end of the VMM. It has describe tell
// why it ended, and clear what it has left behind removed, before Done is closed.
func (l *Life) Watch(describe func(End) string, clear func(context.Context) error) {
	l.Task("wait for the end of "+l.program, func() {
		select {
		case <-l.Process.Done():
		case <-l.ctx.Done():
			return
		}
		l.Log.Info(l.program+" has ended", "reason", l.noteReason(describe))
		// A panic must not keep the end from being told either.
		err := guard.Run("clear up behind "+l.program, func() error { return clear(l.ctx) })
		if err != nil {
			l.Log.Warn("clear up behind "+l.program, "error", err)
		}
		close(l.done)
		l.stop()
	})
}

// noteReason finds out why the VMM ended, from what the guest wrote as well: a
// panic there must not keep the end from being told.
func (l *Life) noteReason(describe func(End) string) string {
	var reason string
	err := guard.Run("find out why "+l.program+" ended", func() error {
		reason = guest.Excerpt(describe(l.End()))
		return nil
	})
	if err != nil {
		reason = err.Error()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reason = reason
	return reason
}

// End tells of a VMM that has ended.
func (l *Life) End() End {
	l.mu.Lock()
	killed := l.killed
	l.mu.Unlock()
	return End{
		Killed: killed, OOMKills: OOMKills() > l.oom, State: l.Process.ExitState(), Console: ReadTail(l.Spec.Console, ConsoleTail),
	}
}

// Handle is Machine.Handle.
func (l *Life) Handle() Handle { return l.handle }

// Done is Machine.Done.
func (l *Life) Done() <-chan struct{} { return l.done }

// ExitReason is Machine.ExitReason.
func (l *Life) ExitReason() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}

// ReattachTap is Machine.ReattachTap.
func (l *Life) ReattachTap() error { return l.Process.ReattachTap(l.Spec.NIC.Tap) }

// Kill is Machine.Kill. What the guest has not flushed to its disk is lost.
func (l *Life) Kill(ctx context.Context) error {
	l.mu.Lock()
	l.killed = true
	l.mu.Unlock()
	if err := l.Process.Kill(ctx); err != nil {
		return fmt.Errorf("kill %s: %w", l.program, err)
	}
	select {
	case <-l.done:
	case <-l.ctx.Done(): // closed by the caller: nobody waits for done
	case <-ctx.Done():
		return fmt.Errorf("kill %s: %w", l.program, ctx.Err())
	}
	return nil
}

// LetGo is for Machine.Close: it ends the goroutines, but not the VMM. release
// closes connections, which wakes those that wait there. Done isn't closed any
// more if it was open.
func (l *Life) LetGo(release func() error) error {
	l.closing.Do(func() {
		l.stop()
		err := release()
		l.tasks.Wait()
		l.closeErr = errors.Join(err, l.Process.Close())
	})
	return l.closeErr
}
