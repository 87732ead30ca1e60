package firecracker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guest"
	"banger/internal/vmm"
)

// Machine is a Firecracker process that this bangerd is connected to. It
// implements vmm.Machine.
type Machine struct {
	*vmm.Life
	place        place
	api          *client
	haltInterval time.Duration

	mu       sync.Mutex
	halted   bool // Firecracker is ended since its guest has halted
	powerOff bool // PowerOff was called
}

func newMachine(spec vmm.Spec, h vmm.Handle, process *vmm.Process, p place, d *Driver) *Machine {
	return &Machine{
		Life:  vmm.NewLife("Firecracker", spec, h, process, d.config.Log),
		place: p, api: newClient(p.dir), haltInterval: d.haltInterval,
	}
}

// awaitAPI waits until a Firecracker that has just been started answers, and
// returns its version.
func (m *Machine) awaitAPI(ctx context.Context) (version, error) {
	for {
		release, err := m.api.version(ctx)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED) { // between bind and listen
			return release, err
		}
		select {
		case <-m.Process.Done():
			return version{}, errEnded
		case <-ctx.Done():
			return version{}, errors.Join(err, ctx.Err())
		case <-time.After(startPoll):
		}
	}
}

// identify checks that the process serves the API, and is this VM.
func (m *Machine) identify(ctx context.Context) error {
	info, err := m.api.instance(ctx)
	switch {
	case err != nil:
		return err
	case info.ID != m.place.id:
		return fmt.Errorf("it calls itself %.100q, not %q", info.ID, m.place.id)
	case info.State == stateNotStarted:
		return fmt.Errorf("its guest was never started")
	}
	return nil
}

// run starts the machine's goroutines.
func (m *Machine) run() {
	m.Task("keep a console's log small", func() { vmm.KeepLogsBounded(m.Context(), m.Log, m.Spec.Console) })
	m.Task("keep Firecracker's logs small", func() {
		vmm.KeepSmall(m.Context(), m.Log, punchInterval, punchLog, m.logPath(), filepath.Join(m.place.logs, metricsName))
	})
	m.Task("wait until a guest has powered off", m.endHalted)
	m.Watch(m.describeEnd, m.clear)
}

// endHalted ends Firecracker once its guest has powered off, see awaitHalt.
func (m *Machine) endHalted() {
	if awaitHalt(m.Context(), m.Spec.Console, m.Handle().PID, m.haltInterval) != nil {
		return // the machine has ended or was closed
	}
	m.mu.Lock()
	m.halted = true
	m.mu.Unlock()
	m.Log.Info("the guest has powered off; ending Firecracker")
	if err := m.Process.KillAnyway(m.Context()); err != nil {
		m.Log.Error("end Firecracker after the guest has powered off", "error", err)
	}
}

// describeEnd tells why Firecracker has ended.
func (m *Machine) describeEnd(end vmm.End) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return ending{End: end, halted: m.halted, powerOff: m.powerOff, log: readLogTail(m.logPath(), logTail)}.describe()
}

// clear removes what Firecracker has left behind.
func (m *Machine) clear(ctx context.Context) error {
	m.api.close()
	return errors.Join(removeSockets(m.place.dir), m.place.remove(ctx, m.Spec))
}

func (m *Machine) logPath() string { return filepath.Join(m.place.logs, logName) }

// DialGuest connects to a vsock port of the guest. It returns vmm.ErrGone when
// Firecracker ends meanwhile.
func (m *Machine) DialGuest(ctx context.Context, port uint32) (guest.Conn, error) {
	return dialVsock(ctx, m.place.dir, port, m.Process.Done())
}

// PowerOff types Ctrl-Alt-Del. systemd reboots then, which ends Firecracker; a
// kernel whose first process hasn't asked to be told resets at once, without
// writing anything to its disks.
func (m *Machine) PowerOff(ctx context.Context) error {
	m.mu.Lock()
	m.powerOff = true
	m.mu.Unlock()
	return m.api.do(ctx, put("/actions", instanceAction{actionCtrlAltDel}), nil)
}

// Close lets go of Firecracker, which goes on.
func (m *Machine) Close() error {
	return m.LetGo(func() error { m.api.close(); return nil })
}
