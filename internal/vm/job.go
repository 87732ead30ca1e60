package vm

import (
	"context"
	"errors"

	"banger/internal/api"
)

// job is what a call is doing to a VM. A VM has at most one at a time.
type job struct {
	operation operation
	yield     context.CancelCauseFunc // ends the call, for a forced one; nil if it can't be cut short
	done      chan struct{}           // closed when the VM is free again
}

var (
	// errForced is why a call ends when a forced one takes its place.
	errForced = api.Errorf(api.CodeConflict, "the VM was ended by force meanwhile")
	// errNothingLeft says that a forced request has nothing more to do, since the
	// call that it cut short has taken back what there was.
	errNothingLeft = errors.New("what was cut short has left nothing")
)

// request says what begin is to reserve a VM for.
type request struct {
	operation operation
	force     bool                    // in whatever state it is, and in the place of other calls
	yield     context.CancelCauseFunc // as in job
}

// begin reserves the VM until the returned func is called, if the VM's state
// admits what is to be done. It waits for the end of an earlier run to be
// cleaned up, and looks again once the VM is reserved, so that two calls can't
// act on the same state. With errNothingLeft it returns what was known of the VM.
func (m *Manager) begin(ctx context.Context, ref string, req request) (Record, func(), error) {
	rec, err := m.records.find(ctx, ref)
	if err != nil {
		return Record{}, nil, err
	}
	id := rec.ID
	cut, err := m.reserve(ctx, rec, req)
	if err != nil {
		return Record{}, nil, err
	}
	if err = m.awaitCleanUp(ctx, id); err == nil {
		rec, err = m.look(ctx, rec, req, cut)
	}
	if err != nil {
		m.end(id)
		return rec, nil, err
	}
	return rec, func() { m.end(id) }, nil
}

// look admits a request for a VM that is reserved, by what the VM is now. cut says
// that another call was cut short for it.
func (m *Manager) look(ctx context.Context, before Record, req request, cut bool) (Record, error) {
	rec, err := m.records.find(ctx, before.ID)
	if cut && errors.Is(err, api.ErrNotFound) {
		return before, errNothingLeft
	}
	if err != nil {
		return rec, err
	}
	f := m.facts(rec)
	f.operation = opNone
	if state := observe(rec, f); cut && req.operation == opStop && (state == api.StateCreated || state == api.StateStopped) {
		return rec, errNothingLeft
	}
	return rec, admit(req, rec, f)
}

// reserve takes a free VM or, by force, one that is being brought up or stopped:
// that call is cut short.
func (m *Manager) reserve(ctx context.Context, rec Record, req request) (cut bool, err error) {
	for {
		other := m.tryReserve(rec.ID, req)
		if other == nil {
			return cut, nil
		}
		if !req.force || other.yield == nil {
			return cut, api.Errorf(api.CodeConflict, "cannot %s VM %q: it is %s", verbs[req.operation], rec.Name, other.operation)
		}
		cut = true
		other.yield(errForced)
		select {
		case <-other.done:
		case <-ctx.Done():
			return cut, context.Cause(ctx)
		}
	}
}

// tryReserve returns the job that is in the way, or nil.
func (m *Manager) tryReserve(id string, req request) *job {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.slots[id].job; other != nil {
		return other
	}
	m.setSlotLocked(id, func(s *slot) {
		s.job = &job{operation: req.operation, yield: req.yield, done: make(chan struct{})}
	})
	return nil
}

// end makes a VM free again.
func (m *Manager) end(id string) {
	m.setSlot(id, func(s *slot) {
		close(s.job.done)
		s.job = nil
	})
}

// awaitCleanUp waits until nothing of a run that has ended is left.
func (m *Manager) awaitCleanUp(ctx context.Context, id string) error {
	inst := m.slot(id).inst
	if inst == nil || inst.alive() {
		return nil
	}
	return inst.awaitGone(ctx)
}
