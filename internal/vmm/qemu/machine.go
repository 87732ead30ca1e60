package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

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
	*vmm.Life
	qmp  *qmpClient
	hold vmm.Hold

	mu       sync.Mutex
	shutdown string               // reason of the SHUTDOWN event
	agent    *serialmux.Host      // nil until the first DialGuest
	closed   bool                 // no agent may be connected any more; the machine was closed or has ended
	warned   map[string]time.Time // when a message was last logged by warn
}

func newMachine(spec vmm.Spec, h vmm.Handle, process *vmm.Process, log *slog.Logger) *Machine {
	return &Machine{Life: vmm.NewLife("QEMU", spec, h, process, log), warned: make(map[string]time.Time)}
}

// run starts the machine's goroutines, once qmp is set.
func (m *Machine) run() {
	m.Task("keep QEMU's logs small", func() { vmm.KeepLogsBounded(m.Context(), m.Log, m.Spec.Console, logPath(m.Spec)) })
	m.Task("let a guest go on when there is space", m.keepGoing)
	m.Watch(m.describeEnd, func(context.Context) error { return errors.Join(m.closeAgent(), removeSockets(m.Spec)) })
}

// describeEnd tells why QEMU has ended.
func (m *Machine) describeEnd(end vmm.End) string {
	select {
	case <-m.qmp.Done(): // the last event has been seen
	case <-time.After(drainTimeout):
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return ending{end, m.shutdown, vmm.ReadTail(logPath(m.Spec), logTail)}.describe()
}

// onEvent notes what tells why QEMU ends.
func (m *Machine) onEvent(e qmpEvent) {
	m.Log.Debug("QEMU event", "event", e.Name, "data", string(e.Data))
	switch e.Name {
	case "SHUTDOWN":
		var data struct {
			Reason string `json:"reason"`
		}
		if err := json.Unmarshal(e.Data, &data); err != nil {
			m.warn("QEMU's event "+e.Name+" isn't understood", err.Error())
		}
		m.mu.Lock()
		m.shutdown = data.Reason
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
		m.Log.Warn(message, "detail", guest.Excerpt(detail))
	}
}

// DialGuest connects to a port of the guest's agent over the serial line. It
// returns vmm.ErrGone when QEMU ends meanwhile.
func (m *Machine) DialGuest(ctx context.Context, port uint32) (guest.Conn, error) {
	agent, err := m.connectAgent(ctx)
	if err != nil {
		return nil, m.Process.OrGone(err)
	}
	conn, err := agent.Open(ctx, port)
	if err != nil {
		return nil, m.Process.OrGone(err)
	}
	return conn, nil
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
		agent, err := serialmux.Dial(ctx, AgentSocket(m.Spec.RuntimeDir), m.Log)
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

// Close lets go of QEMU, which goes on.
func (m *Machine) Close() error {
	return m.LetGo(func() error { return errors.Join(m.closeAgent(), m.qmp.Close()) })
}
