package vm

import (
	"context"
	"errors"

	"banger/internal/api"
	"banger/internal/store"
)

// Delete removes a VM with its disk. A running one is refused without Force, which
// cuts a Create, Start or Stop short that is under way.
func (m *Manager) Delete(ctx context.Context, ref string, req api.DeleteVM) error {
	rec, end, err := m.begin(ctx, ref, request{operation: opDelete, force: req.Force})
	if errors.Is(err, errNothingLeft) {
		return nil
	}
	if err != nil {
		return err
	}
	defer end()
	if _, err := m.endUnreached(ctx, rec); err != nil {
		return err
	}
	return m.discard(ctx, rec)
}

// discard removes whatever exists of a VM. The record goes last, marked before
// anything else goes, so that an interrupted discard is finished at the next
// start of bangerd. A full disk may prevent that mark, but not the removal, which
// makes room.
func (m *Manager) discard(ctx context.Context, rec Record) error {
	if rec.broken != nil { // it can't be marked; what runs of it isn't known
		if err := m.endVMM(ctx, rec); err != nil {
			return err
		}
	} else if _, err := m.records.update(ctx, rec.ID, func(r *Record) { r.Doomed = true }); err != nil && !store.IsFull(err) {
		return err
	}
	if inst, err := m.instance(rec); err == nil {
		if err := inst.kill(ctx); err != nil {
			return err
		}
	}
	err := errors.Join(m.cleanVMM(ctx, rec), m.cleanRuntime(ctx, rec), m.removeFiles(rec))
	if err != nil {
		return err
	}
	return m.records.remove(ctx, rec.ID)
}
