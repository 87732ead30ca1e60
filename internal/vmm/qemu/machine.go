package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"banger/internal/guard"
	"banger/internal/guest"
	"banger/internal/guest/serialmux"
	"banger/internal/vmm"
)

// drainTimeout is how long the monitor's last events may take to arrive once
// the process has ended; they are in the socket's buffer by then.
const drainTimeout = 2 * time.Second

// warnInterval is the least time between two warnings of a kind.
const warnInterval = time.Minute

// Machine is a QEMU process that this bangerd is connected to. It implements
// vmm.Machine.
type Machine struct {
	spec    vmm.Spec
	handle  vmm.Handle
	process *vmm.Process
	qmp     *qmpClient
	log     *slog.Logger
	done    chan struct{}
	oom     uint64 // vmm.OOMKills when the machine was made
	hold    vmm.Hold

	// The machine's goroutines live until stop is called.
	life  context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup

	closing  sync.Once
	closeErr error

	mu     sync.Mutex
	ending ending
	reason string               // valid once done is closed
	agent  *serialmux.Host      // nil until the first DialGuest
	closed bool                 // no agent may be connected any more; the machine was closed or has ended
	warned map[string]time.Time // when a message was last logged by warn
}

func newMachine(spec vmm.Spec, h vmm.Handle, process *vmm.Process, log *slog.Logger) *Machine {
	life, stop := context.WithCancel(context.Background())
	return &Machine{
		spec: spec, handle: h, process: process, log: log.With("vm", spec.Name, "pid", h.PID),
		done: make(chan struct{}), oom: vmm.OOMKills(), life: life, stop: stop, warned: make(map[string]time.Time),
	}
}

// run starts the machine's goroutines, once qmp is set.
func (m *Machine) run() {
	m.tasks.Go(guard.Func("keep QEMU's logs small", func() { vmm.KeepLogsBounded(m.life, m.log, m.spec.Console, logPath(m.spec)) }))
	m.tasks.Go(guard.Func("wait for QEMU's end", m.awaitEnd))
	m.tasks.Go(guard.Func("let a guest go on when there is space", m.keepGoing))
}

// awaitEnd notes why QEMU ended, clears up behind it and closes done.
func (m *Machine) awaitEnd() {
	select {
	case <-m.process.Done():
	case <-m.life.Done():
		return
	}
	select {
	case <-m.qmp.Done(): // the last event has been seen
	case <-time.After(drainTimeout):
	}
	reason := m.noteEnd()
	m.log.Info("QEMU has ended", "reason", reason)
	if err := errors.Join(m.closeAgent(), removeSockets(m.spec)); err != nil {
		m.log.Warn("clear up behind QEMU", "error", err)
	}
	close(m.done)
	m.stop()
}

// noteEnd finds out why QEMU ended, from what the guest wrote as well: a panic
// there must not keep the end from being told.
func (m *Machine) noteEnd() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ending.oomKills = vmm.OOMKills() > m.oom
	err := guard.Run("find out why QEMU ended", func() error {
		m.reason = guest.Excerpt(m.ending.describe(
			vmm.ReadTail(m.spec.Console, vmm.ConsoleTail), vmm.ReadTail(logPath(m.spec), logTail), m.process.ExitState()))
		return nil
	})
	if err != nil {
		m.reason = err.Error()
	}
	return m.reason
}

// onEvent notes what tells why QEMU ends.
func (m *Machine) onEvent(e qmpEvent) {
	m.log.Debug("QEMU event", "event", e.Name, "data", string(e.Data))
	switch e.Name {
	case "SHUTDOWN":
		var data struct {
			Reason string `json:"reason"`
		}
		if err := json.Unmarshal(e.Data, &data); err != nil {
			m.warn("QEMU's event "+e.Name+" isn't understood", err.Error())
		}
		m.mu.Lock()
		m.ending.shutdown = data.Reason
		m.mu.Unlock()
	case "BLOCK_IO_ERROR":
		m.noteDiskError(e.Data)
	case "RESUME":
		m.hold.Set("")
	}
}

// warn logs what a guest can cause as often as it likes, and so once a minute
// at most.
func (m *Machine) warn(message, detail string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.warned[message]) >= warnInterval {
		m.warned[message] = now
		m.log.Warn(message, "detail", guest.Excerpt(detail))
	}
}

// Handle returns what Adopt needs to find this machine again.
func (m *Machine) Handle() vmm.Handle { return m.handle }

// Done is closed once QEMU has ended.
func (m *Machine) Done() <-chan struct{} { return m.done }

// ExitReason tells why QEMU ended, once Done is closed.
func (m *Machine) ExitReason() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reason
}

// DialGuest connects to a port of the guest's agent over the serial line. It
// returns vmm.ErrGone when QEMU ends meanwhile.
func (m *Machine) DialGuest(ctx context.Context, port uint32) (guest.Conn, error) {
	agent, err := m.connectAgent(ctx)
	if err != nil {
		return nil, m.orGone(err)
	}
	conn, err := agent.Open(ctx, port)
	if err != nil {
		return nil, m.orGone(err)
	}
	return conn, nil
}

// orGone returns ErrGone instead of what follows from QEMU's end.
func (m *Machine) orGone(err error) error {
	select {
	case <-m.process.Done():
		return vmm.ErrGone
	default:
		return err
	}
}

// connectAgent returns the serial line's only client. It keeps itself
// connected.
func (m *Machine) connectAgent(ctx context.Context) (*serialmux.Host, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, net.ErrClosed
	}
	if m.agent == nil {
		agent, err := serialmux.Dial(ctx, AgentSocket(m.spec.RuntimeDir), m.log)
		if err != nil {
			return nil, err
		}
		m.agent = agent
	}
	return m.agent, nil
}

func (m *Machine) closeAgent() error {
	m.mu.Lock()
	agent := m.agent
	m.closed = true
	m.mu.Unlock()
	if agent == nil {
		return nil
	}
	return agent.Close()
}

// PowerOff presses the machine's power button.
func (m *Machine) PowerOff(ctx context.Context) error {
	return m.qmp.Execute(ctx, "system_powerdown", nil, nil)
}

// ReattachTap connects QEMU to its tap, after that was removed and made anew.
func (m *Machine) ReattachTap() error { return m.process.ReattachTap(m.spec.NIC.Tap) }

// Kill ends QEMU at once. What the guest has not flushed to its disk is lost.
func (m *Machine) Kill(ctx context.Context) error {
	m.mu.Lock()
	m.ending.killed = true
	m.mu.Unlock()
	if err := m.process.Kill(ctx); err != nil {
		return fmt.Errorf("kill QEMU: %w", err)
	}
	select {
	case <-m.done:
	case <-m.life.Done(): // closed by the caller: nobody waits for done
	case <-ctx.Done():
		return fmt.Errorf("kill QEMU: %w", ctx.Err())
	}
	return nil
}

// Close lets go of QEMU, which goes on. Done isn't closed any more if it was
// open.
func (m *Machine) Close() error {
	m.closing.Do(func() {
		m.stop()
		m.closeErr = errors.Join(m.closeAgent(), m.qmp.Close(), m.process.Close())
		m.tasks.Wait()
	})
	return m.closeErr
}
