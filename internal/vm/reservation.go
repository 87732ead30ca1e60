package vm

import (
	"context"

	"banger/internal/api"
)

// reservation is what a call is doing to a VM. A VM has at most one at a time.
type reservation struct {
	operation operation
	yield     context.CancelCauseFunc // ends the call, for a forced one; nil if it can't be cut short
	done      chan struct{}           // closed when the VM is free again
}

// errForced is why a stop ends when a forced one takes its place.
var errForced = api.Errorf(api.CodeConflict, "the VM was ended by force meanwhile")

// request says what begin is to reserve a VM for.
type request struct {
	operation operation
	force     bool                    // in whatever state it is, and in the place of a stop
	yield     context.CancelCauseFunc // as in reservation
}

// begin reserves the VM until the returned func is called, if the VM's state
// admits what is to be done. It waits for the end of an earlier run to be
// cleaned up, and looks again under the reservation, so that two calls can't
// act on the same state.
func (m *Manager) begin(ctx context.Context, ref string, req request) (Record, func(), error) {
	rec, err := m.records.find(ctx, ref)
	if err != nil {
		return Record{}, nil, err
	}
	id := rec.ID
	if err := m.reserve(ctx, rec, req); err != nil {
		return Record{}, nil, err
	}
	end := func() { m.end(id) }
	if err = m.awaitCleanUp(ctx, id); err == nil {
		rec, err = m.records.find(ctx, id)
	}
	if err == nil {
		f := m.facts(rec)
		f.operation = opNone
		err = admit(req, rec, f)
	}
	if err != nil {
		end()
		return Record{}, nil, err
	}
	return rec, end, nil
}

// reserve takes a free VM or, by force, one that is being stopped.
func (m *Manager) reserve(ctx context.Context, rec Record, req request) error {
	for {
		other := m.tryReserve(rec.ID, req)
		if other == nil {
			return nil
		}
		if !req.force || other.yield == nil {
			return api.Errorf(api.CodeConflict, "cannot %s VM %q: it is %s", verbs[req.operation], rec.Name, other.operation)
		}
		other.yield(errForced)
		select {
		case <-other.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tryReserve returns the reservation that is in the way, or nil.
func (m *Manager) tryReserve(id string, req request) *reservation {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.busy[id]; other != nil {
		return other
	}
	m.busy[id] = &reservation{operation: req.operation, yield: req.yield, done: make(chan struct{})}
	return nil
}

// end makes a VM free again.
func (m *Manager) end(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.busy[id].done)
	delete(m.busy, id)
}

// awaitCleanUp waits until nothing of a run that has ended is left.
func (m *Manager) awaitCleanUp(ctx context.Context, id string) error {
	m.mu.Lock()
	inst := m.running[id]
	m.mu.Unlock()
	if inst == nil || inst.alive() {
		return nil
	}
	return inst.awaitGone(ctx)
}
