package vm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/guard"
	"banger/internal/guest"
	"banger/internal/store"
	"banger/internal/vmm"
)

// instance is one run of a VM: from its VMM's start (or adoption) to its end.
type instance struct {
	manager  *Manager
	id       string
	name     string
	ip       netip.Addr
	driver   vmm.Driver
	machine  vmm.Machine
	ready    chan struct{} // closed once the guest's init has finished, or has given up
	gone     chan struct{} // closed once the end is written down and cleaned up
	jumped   chan struct{} // holds one value after a jump of the host's clock
	offline  string        // why it has no network, if it hasn't; guarded by Manager.mu
	unbooted string        // why its init has given up, if it has; guarded by Manager.mu
	finisher stopFinisher

	ctx    context.Context // ends with the machine or with bangerd
	cancel context.CancelCauseFunc
}

var (
	errMachineEnded = errors.New("the VMM has ended")
	errReleased     = errors.New("bangerd is shutting down")
)

// track keeps an eye on a machine from now on.
func (m *Manager) track(rec Record, driver vmm.Driver, machine vmm.Machine) *instance {
	ctx, cancel := context.WithCancelCause(context.Background())
	inst := &instance{
		manager: m, id: rec.ID, name: rec.Name, ip: rec.IP, driver: driver, machine: machine,
		ready: make(chan struct{}), gone: make(chan struct{}), jumped: make(chan struct{}, 1),
		ctx: ctx, cancel: cancel,
	}
	m.setSlot(rec.ID, func(s *slot) { s.inst, s.lost = inst, nil })
	if rec.Stage == StageReady {
		close(inst.ready)
	}
	guard.Go("watch a VM", inst.watchEnd)
	return inst
}

// watchEnd waits for the VMM to end, writes the end down, so that who sees it is
// told why, and removes what only a running VM needs.
func (i *instance) watchEnd() {
	select {
	case <-i.machine.Done():
	case <-i.ctx.Done():
		return
	}
	i.cancel(errMachineEnded)
	m := i.manager
	rebooted := false
	// The last step, as whatever comes next for this VM waits for it.
	defer func() {
		m.setSlot(i.id, func(s *slot) { s.inst = nil })
		close(i.gone)
		if rebooted {
			m.startRebooted(i)
		}
	}()
	_ = i.machine.Close() // the process is gone; nothing is left to lose

	ctx := context.Background()
	reason := i.machine.ExitReason()
	err := m.noteEnd(ctx, i.id, func(r *Record) {
		rebooted = reason == vmm.Rebooted && r.mayReboot()
		r.ended(reason)
	})
	err = errors.Join(err, m.cleanRuntime(ctx, Record{ID: i.id, IP: i.ip}))
	if err != nil {
		m.log.Error("clean up after a VM", "vm", i.name, "err", err)
		return
	}
	m.log.Info("VM ended", "vm", i.name, "reason", reason)
}

// ended notes that the VMM of the record is gone. Whoever stopped it needs no
// reason.
func (r *Record) ended(reason string) {
	if r.Stopping {
		reason = ""
	}
	r.Handle, r.Stage, r.Stopping = nil, StageDown, false
	r.StopReason = reason
}

// noteEnd writes down, by change, that a VM's VMM is gone. A full disk is no
// error: no VM could be ended then, and whoever reads the record finds no VMM.
func (m *Manager) noteEnd(ctx context.Context, id string, change func(*Record)) error {
	_, err := m.records.update(ctx, id, change)
	if store.IsFull(err) {
		m.log.Warn("the end of a VM could not be noted", "err", err)
		return nil
	}
	return err
}

// cleanRuntime removes what only a running VM needs.
func (m *Manager) cleanRuntime(ctx context.Context, rec Record) error {
	return errors.Join(m.cfg.Network.Detach(ctx, rec.ID, rec.IP), os.RemoveAll(m.cfg.Layout.VMRuntimeDir(rec.ID)), os.RemoveAll(m.cfg.Layout.VMSwap(rec.ID)))
}

// The pause after a failed wait for a guest grows, since a guest that answers
// with an error each time would fill the log.
const (
	firstReadyPause = time.Second
	lastReadyPause  = 10 * time.Minute
)

// watchReady asks the guest, in the background, to tell when its init has
// finished, and writes that down.
func (i *instance) watchReady() {
	guard.Go("wait for a guest", func() {
		client := guest.NewClient(i.machine.DialGuest)
		for pause := firstReadyPause; i.ctx.Err() == nil; pause = min(2*pause, lastReadyPause) {
			state, err := client.Ready(i.ctx)
			if err == nil {
				i.noteReady(state)
				return
			}
			i.manager.log.Warn("wait for the guest", "vm", i.name, "err", err)
			if i.gaveUp(client, err) {
				return
			}
			sleep(i.ctx, pause)
		}
	})
}

func (i *instance) noteReady(state guest.Ready) {
	if len(state.Failed) > 0 {
		i.manager.log.Warn("units failed in the guest", "vm", i.name, "units", guest.Excerpt(strings.Join(state.Failed, " ")))
	}
	if _, err := i.manager.records.update(i.ctx, i.id, func(r *Record) { r.advance(StageBooted, StageReady) }); err != nil {
		i.manager.log.Error("note that the guest is ready", "vm", i.name, "err", err)
	}
	close(i.ready)
}

// gaveUp tells, and notes, whether err is the guest's last word: its init won't
// finish. The agent that still boots the guest refuses too, which passes.
func (i *instance) gaveUp(client *guest.Client, err error) bool {
	var refused *guest.RemoteError
	if !errors.As(err, &refused) {
		return false
	}
	if health, err := client.Health(i.ctx); err != nil || health.Stage != guest.StageReady {
		return false
	}
	i.manager.mu.Lock()
	i.unbooted = refused.Error()
	i.manager.mu.Unlock()
	close(i.ready)
	return true
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (i *instance) alive() bool {
	select {
	case <-i.machine.Done():
		return false
	default:
		return true
	}
}

// bound returns a context that ends with the machine as well, and when the VMM
// stops the guest.
func (i *instance) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	i.cutWhenHeld(ctx, cancel)
	stop := context.AfterFunc(i.ctx, guard.Func("end a call with its VM", func() { cancel(context.Cause(i.ctx)) }))
	return ctx, func() { stop(); cancel(nil) }
}

// explain tells why the VMM ended or has stopped the guest, if err came of that.
func (i *instance) explain(ctx context.Context, err error) error {
	var held *heldUp
	if errors.As(context.Cause(ctx), &held) {
		return held
	}
	if errors.Is(err, vmm.ErrGone) {
		<-i.machine.Done() // the connection may notice before the process is reaped
	}
	if i.alive() && !errors.Is(context.Cause(ctx), errMachineEnded) {
		return err
	}
	reason := or(i.machine.ExitReason(), "the VMM ended")
	return api.Errorf(api.CodeGuest, "VM %s ended while it was booting: %s", i.name, reason)
}

// kill ends the VMM and waits until its remains are cleaned up.
func (i *instance) kill(ctx context.Context) error {
	if !i.alive() {
		return i.awaitGone(ctx)
	}
	if err := i.machine.Kill(ctx); err != nil && i.alive() {
		return fmt.Errorf("end the VMM of %s: %w", i.name, err)
	}
	return i.awaitGone(ctx)
}

func (i *instance) awaitGone(ctx context.Context) error {
	select {
	case <-i.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// release lets go of the machine without ending it.
func (i *instance) release() error {
	i.cancel(errReleased)
	return i.machine.Close()
}
