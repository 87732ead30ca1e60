package firecracker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guard"
	"banger/internal/guest"
	"banger/internal/vmm"
)

// Machine is a Firecracker process that this bangerd is connected to. It
// implements vmm.Machine.
type Machine struct {
	spec    vmm.Spec
	handle  vmm.Handle
	process *vmm.Process
	place   place
	api     *client
	log     *slog.Logger
	done    chan struct{}
	oom     uint64 // vmm.OOMKills when the machine was made

	haltInterval time.Duration

	// The machine's goroutines live until stop is called.
	life  context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup

	closing  sync.Once
	closeErr error

	mu     sync.Mutex
	ending ending
	reason string // valid once done is closed
}

func newMachine(spec vmm.Spec, h vmm.Handle, process *vmm.Process, p place, d *Driver) *Machine {
	life, stop := context.WithCancel(context.Background())
	return &Machine{
		spec: spec, handle: h, process: process, place: p, api: newClient(p.dir),
		log: d.config.Log.With("vm", spec.Name, "pid", h.PID), done: make(chan struct{}), oom: vmm.OOMKills(),
		haltInterval: d.haltInterval, life: life, stop: stop,
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
		case <-m.process.Done():
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
	m.tasks.Go(guard.Func("keep a console's log small", func() { vmm.KeepLogsBounded(m.life, m.log, m.spec.Console) }))
	m.tasks.Go(guard.Func("keep Firecracker's logs small", func() {
		keepLogsPunched(m.life, m.log, filepath.Join(m.place.logs, logName), filepath.Join(m.place.logs, metricsName))
	}))
	m.tasks.Go(guard.Func("wait until a guest has powered off", m.endHalted))
	m.tasks.Go(guard.Func("wait for Firecracker's end", m.awaitEnd))
}

// endHalted ends Firecracker once its guest has powered off, see awaitHalt.
func (m *Machine) endHalted() {
	if awaitHalt(m.life, m.spec.Console, m.handle.PID, m.haltInterval) != nil {
		return // the machine has ended or was closed
	}
	m.mu.Lock()
	m.ending.halted = true
	m.mu.Unlock()
	m.log.Info("the guest has powered off; ending Firecracker")
	if err := m.process.KillAnyway(m.life); err != nil {
		m.log.Error("end Firecracker after the guest has powered off", "error", err)
	}
}

// awaitEnd notes why Firecracker ended, clears up behind it and closes done.
func (m *Machine) awaitEnd() {
	select {
	case <-m.process.Done():
	case <-m.life.Done():
		return
	}
	reason := m.noteEnd()
	m.log.Info("Firecracker has ended", "reason", reason)
	m.api.close()
	if err := errors.Join(removeSockets(m.place.dir), m.place.remove(m.life, m.spec)); err != nil {
		m.log.Warn("clear up behind Firecracker", "error", err)
	}
	close(m.done)
	m.stop()
}

// noteEnd finds out why Firecracker has ended, from what the guest wrote as
// well: a panic there must not keep the end from being told.
func (m *Machine) noteEnd() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := guard.Run("find out why Firecracker ended", func() error {
		m.reason = m.describeEnd()
		return nil
	})
	if err != nil {
		m.reason = err.Error()
	}
	return m.reason
}

// describeEnd tells why Firecracker has ended. The caller holds mu.
func (m *Machine) describeEnd() string {
	e := m.ending
	e.state = m.process.ExitState()
	e.oomKills = vmm.OOMKills() > m.oom
	e.console = vmm.ReadTail(m.spec.Console, vmm.ConsoleTail)
	e.log = readLogTail(filepath.Join(m.place.logs, logName), logTail)
	return guest.Excerpt(e.describe())
}

// Handle returns what Adopt needs to find this machine again.
func (m *Machine) Handle() vmm.Handle { return m.handle }

// Done is closed once Firecracker has ended.
func (m *Machine) Done() <-chan struct{} { return m.done }

// ExitReason tells why Firecracker ended, once Done is closed.
func (m *Machine) ExitReason() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reason
}

// DialGuest connects to a vsock port of the guest. It returns vmm.ErrGone when
// Firecracker ends meanwhile.
func (m *Machine) DialGuest(ctx context.Context, port uint32) (guest.Conn, error) {
	return dialVsock(ctx, m.place.dir, port, m.process.Done())
}

// PowerOff types Ctrl-Alt-Del. systemd reboots then, which ends Firecracker; a
// kernel whose first process hasn't asked to be told resets at once, without
// writing anything to its disks.
func (m *Machine) PowerOff(ctx context.Context) error {
	m.mu.Lock()
	m.ending.powerOff = true
	m.mu.Unlock()
	return m.api.do(ctx, put("/actions", instanceAction{actionCtrlAltDel}), nil)
}

// ReattachTap connects Firecracker to its tap, after that was removed and made anew.
func (m *Machine) ReattachTap() error { return m.process.ReattachTap(m.spec.NIC.Tap) }

// Kill ends Firecracker at once. What the guest has not flushed to its disk is
// lost.
func (m *Machine) Kill(ctx context.Context) error {
	m.mu.Lock()
	m.ending.killed = true
	m.mu.Unlock()
	if err := m.process.Kill(ctx); err != nil {
		return fmt.Errorf("kill Firecracker: %w", err)
	}
	select {
	case <-m.done:
	case <-m.life.Done(): // closed by the caller: nobody waits for done
	case <-ctx.Done():
		return fmt.Errorf("kill Firecracker: %w", ctx.Err())
	}
	return nil
}

// Close lets go of Firecracker, which goes on. Done isn't closed any more if it
// was open.
func (m *Machine) Close() error {
	m.closing.Do(func() {
		m.stop()
		m.tasks.Wait()
		m.api.close()
		m.closeErr = m.process.Close()
	})
	return m.closeErr
}
