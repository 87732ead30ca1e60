package vm

import (
	"context"
	"errors"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/store"
)

// How long a guest may take to go down at each step before the next, harder
// one. Emulated guests are ten times slower than those under KVM.
const (
	shutdownAskTimeout = 10 * time.Second // the agent takes the order
	shutdownTimeout    = 90 * time.Second // systemd stops its services (its own limit per service)
	powerOffTimeout    = 10 * time.Second // the guest reacts to the power button
)

// Stop asks the guest to shut down, then presses its power button, then ends
// the VMM. With Force it does only the last, also where bangerd can't reach the
// VMM; a Create, Start or Stop that is under way is cut short. A VM whose Create
// wasn't through is then gone, as if that had failed. What a guest was asked for
// can't be taken back: the VM stays in StateStopping if ctx ends then.
func (m *Manager) Stop(ctx context.Context, ref string, req api.StopVM, progress api.ProgressFunc) (api.VM, error) {
	ctx, yield := context.WithCancelCause(ctx)
	defer yield(nil)
	rec, end, err := m.begin(ctx, ref, request{operation: opStop, force: req.Force, yield: yield})
	if errors.Is(err, errNothingLeft) {
		return describe(rec, facts{}), nil
	}
	if err != nil {
		return api.VM{}, err
	}
	defer end()
	err = newPhases(progress).run("stop", "stopping "+rec.Name, func() error { return m.bringDown(ctx, rec, req.Force) })
	if err != nil {
		return api.VM{}, err
	}
	return m.Get(ctx, rec.ID)
}

// bringDown is Stop for a VM that is reserved.
func (m *Manager) bringDown(ctx context.Context, rec Record, force bool) error {
	if force {
		if ended, err := m.endUnreached(ctx, rec); ended || err != nil {
			return err
		}
	}
	stopped := rec.Stopping // by an earlier call
	noted, err := m.records.update(ctx, rec.ID, func(r *Record) { r.Stopping = r.Stage.hasVMM() })
	switch {
	case force && store.IsFull(err): // it may be this VM that takes the room
	case err != nil || !noted.Stopping:
		return err
	default:
		rec = noted
	}
	inst, err := m.instance(rec)
	if err != nil {
		return err
	}
	if !force {
		unheld, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		inst.cutWhenHeld(unheld, cancel)
		asked, err := m.shutDown(unheld, rec, inst)
		if err == nil {
			return nil
		}
		var held *heldUp
		if errors.As(context.Cause(unheld), &held) {
			return m.leaveHeld(ctx, inst, asked || stopped, held)
		}
		if ctx.Err() != nil {
			return m.leaveStop(ctx, rec, asked)
		}
	}
	return inst.kill(ctx)
}

// leaveStop is for a stop whose caller has gone: one that the guest doesn't know
// of yet is forgotten, unless it was bangerd's end that cut it short.
func (m *Manager) leaveStop(ctx context.Context, rec Record, asked bool) error {
	cause := context.Cause(ctx)
	if asked || !errors.Is(cause, context.Canceled) {
		return cause
	}
	if _, err := m.records.update(ctx, rec.ID, func(r *Record) { r.Stopping = false }); err != nil {
		return err
	}
	return cause
}

// leaveHeld is for a stop of a guest that its VMM has stopped meanwhile: to end it
// would lose its last writes. One that was asked, or may have been, goes down when
// it goes on.
func (m *Manager) leaveHeld(ctx context.Context, inst *instance, asked bool, held *heldUp) error {
	if asked {
		m.finishStop(inst)
	} else if _, err := m.records.update(ctx, inst.id, func(r *Record) { r.Stopping = false }); err != nil {
		return err
	}
	return held.told
}

// shutDown lets the guest end by itself, so that its services and filesystems
// are closed properly. It tells whether the guest has got to know of it.
func (m *Manager) shutDown(ctx context.Context, rec Record, inst *instance) (asked bool, err error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	ask, cancel := context.WithTimeout(ctx, shutdownAskTimeout)
	defer cancel()
	if rec.Stage.hasGuest() {
		// A reset ends every VMM; Firecracker goes on after a power-off.
		err := guest.NewClient(inst.machine.DialGuest).Shutdown(ask, guest.ShutdownParams{Reset: true})
		if err == nil {
			wait, cancel := context.WithTimeout(ctx, shutdownTimeout)
			defer cancel()
			return true, inst.awaitGone(wait)
		}
		if ctx.Err() != nil {
			// The order may have arrived; nothing harder comes after it, since
			// nobody waits for that any more.
			return true, err
		}
		m.log.Warn("ask the guest to shut down", "vm", rec.Name, "err", err)
	}
	if err := inst.machine.PowerOff(ask); err != nil {
		return false, err
	}
	wait, cancel := context.WithTimeout(ctx, powerOffTimeout)
	defer cancel()
	return true, inst.awaitGone(wait)
}
