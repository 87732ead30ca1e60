package vm

import (
	"context"
	"errors"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/undo"
)

// How long a guest may take to go down at each step before the next, harder
// one. Emulated guests are ten times slower than those under KVM.
const (
	shutdownAskTimeout = 10 * time.Second // the agent takes the order
	shutdownTimeout    = 90 * time.Second // systemd stops its services (its own limit per service)
	powerOffTimeout    = 10 * time.Second // the guest reacts to the power button
)

// Start starts a stopped VM and waits for its guest. If that fails the VM is
// stopped again, except after a time-out.
func (m *Manager) Start(ctx context.Context, ref string, req api.StartVM, progress api.ProgressFunc) (_ api.VM, err error) {
	u, ph := undo.New(), newPhases(progress)
	defer func() { err = u.Finish(err) }()

	rec, end, err := m.begin(ctx, ref, opStart, false)
	if err != nil {
		return api.VM{}, err
	}
	defer end()
	parts, err := m.assets(ctx, rec.Image, progress, ph)
	if err != nil {
		return api.VM{}, err
	}
	defer parts.release()
	rec, inst, err := m.launch(ctx, rec, parts, u, ph)
	if err != nil {
		return api.VM{}, m.keepOnTimeout(ctx, err, rec, u)
	}
	if rec, err = m.awaitGuest(ctx, rec, inst, req.Wait, ph); err != nil {
		return api.VM{}, m.keepOnTimeout(ctx, err, rec, u)
	}
	return describe(rec, m.facts(rec)), nil
}

// Stop asks the guest to shut down, then presses its power button, then ends
// the VMM. With Force it does only the last.
func (m *Manager) Stop(ctx context.Context, ref string, req api.StopVM, progress api.ProgressFunc) (api.VM, error) {
	rec, end, err := m.begin(ctx, ref, opStop, false)
	if err != nil {
		return api.VM{}, err
	}
	defer end()
	inst, err := m.instance(rec)
	if err != nil {
		return api.VM{}, err
	}
	err = newPhases(progress).run("stop", "stopping "+rec.Name, func() error {
		if !req.Force {
			if err := m.shutDown(ctx, rec, inst); err == nil || ctx.Err() != nil {
				return err
			}
		}
		return inst.kill(ctx)
	})
	if err != nil {
		return api.VM{}, err
	}
	return m.Get(ctx, rec.ID)
}

// shutDown lets the guest end by itself, so that its services and filesystems
// are closed properly.
func (m *Manager) shutDown(ctx context.Context, rec Record, inst *instance) error {
	ask, cancel := context.WithTimeout(ctx, shutdownAskTimeout)
	defer cancel()
	if rec.Booted {
		// A reset ends every VMM; Firecracker goes on after a power-off.
		err := guest.NewClient(inst.machine.DialGuest).Shutdown(ask, guest.ShutdownParams{Reset: true})
		if err == nil {
			wait, cancel := context.WithTimeout(ctx, shutdownTimeout)
			defer cancel()
			return inst.awaitGone(wait)
		}
		m.log.Warn("ask the guest to shut down", "vm", rec.Name, "err", err)
	}
	if err := inst.machine.PowerOff(ask); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, powerOffTimeout)
	defer cancel()
	return inst.awaitGone(wait)
}

// Delete removes a VM with its disk. A running one is refused without Force.
func (m *Manager) Delete(ctx context.Context, ref string, req api.DeleteVM) error {
	rec, end, err := m.begin(ctx, ref, opDelete, req.Force)
	if err != nil {
		return err
	}
	defer end()
	return m.discard(ctx, rec)
}

// discard removes whatever exists of a VM. The record goes last, marked before
// anything else goes, so that an interrupted discard is finished at the next
// start of bangerd.
func (m *Manager) discard(ctx context.Context, rec Record) error {
	if _, err := m.records.update(ctx, rec.ID, func(r *Record) { r.Doomed = true }); err != nil {
		return err
	}
	if inst, err := m.instance(rec); err == nil {
		if err := inst.kill(ctx); err != nil {
			return err
		}
	}
	err := errors.Join(m.cleanRuntime(ctx, rec), m.removeFiles(rec))
	if err != nil {
		return err
	}
	return m.records.remove(ctx, rec.ID)
}
