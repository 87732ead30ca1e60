package vm

import (
	"context"
	"errors"

	"banger/internal/api"
	"banger/internal/guard"
	"banger/internal/vmm"
)

// stopFinisher is what an instance has for finishStop; guarded by Manager.mu.
type stopFinisher struct {
	works bool
	again bool // it was called for while it worked
}

// finishStop goes on, in the background, with a stop that was written down: one
// that an earlier bangerd had begun, or one whose guest was held before it was
// down. It waits for a guest that is held and for calls that have the VM, and tries
// again what fails, until the VM is down or the stop was taken back.
func (m *Manager) finishStop(inst *instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life.Err() != nil {
		return // Close may be waiting for the tasks already
	}
	if inst.finisher.works {
		inst.finisher.again = true
		return
	}
	inst.finisher.works = true
	m.tasks.Go(guard.Func("finish a stop", func() {
		for m.keepStopping(inst); m.finishAgain(inst); m.keepStopping(inst) {
		}
	}))
}

// finishAgain tells whether there was another call of finishStop.
func (m *Manager) finishAgain(inst *instance) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	inst.finisher = stopFinisher{works: inst.finisher.again}
	return inst.finisher.works
}

func (m *Manager) keepStopping(inst *instance) {
	for pause := firstSearchPause; inst.awaitUnheld(m.life); pause = min(2*pause, longestSearchPause) {
		done, err := m.tryStop(inst)
		if done || m.life.Err() != nil {
			return
		}
		if !errors.Is(err, errForced) {
			m.log.Warn("finish a stop that was interrupted; it is tried again", "vm", inst.name, "err", err)
		}
		sleep(m.life, pause)
	}
}

// tryStop stops a VM whose record says that it is to be stopped. It tells whether
// there is nothing more to do.
func (m *Manager) tryStop(inst *instance) (done bool, err error) {
	ctx, yield := context.WithCancelCause(m.life)
	defer yield(nil)
	if err := m.reserveLater(ctx, inst.id, request{operation: opStop, yield: yield}); err != nil {
		return false, err
	}
	defer m.end(inst.id)
	rec, err := m.records.find(ctx, inst.id)
	if errors.Is(err, api.ErrNotFound) || err == nil && !rec.Stopping || !inst.alive() {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	m.log.Info("finish a stop that was interrupted", "vm", rec.Name)
	err = m.bringDown(ctx, rec, false)
	return err == nil, err
}

// reserveLater reserves a VM once it is free.
func (m *Manager) reserveLater(ctx context.Context, id string, req request) error {
	for {
		other := m.tryReserve(id, req)
		if other == nil {
			return nil
		}
		select {
		case <-other.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// awaitUnheld waits for the guest to go on, if its VMM has stopped it. It returns
// false if the VMM or ctx ends before that.
func (i *instance) awaitUnheld(ctx context.Context) bool {
	holder, ok := i.machine.(vmm.Holder)
	for ok {
		why, changed := holder.Held()
		if why == "" {
			break
		}
		select {
		case <-changed:
		case <-i.ctx.Done():
			return false
		case <-ctx.Done():
			return false
		}
	}
	return i.ctx.Err() == nil && ctx.Err() == nil
}
