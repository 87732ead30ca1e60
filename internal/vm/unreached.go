package vm

import (
	"context"
	"time"

	"banger/internal/guard"
)

const (
	// searchTimeout bounds one try to reach a VMM.
	searchTimeout = 10 * time.Second
	// Between two tries.
	firstSearchPause, longestSearchPause = time.Second, 30 * time.Second
)

// unreached is a VM whose VMM runs as far as is known, but to which bangerd has
// no connection. Everything of it stays as it is.
type unreached struct {
	cancel context.CancelFunc
	tried  chan struct{} // closed after the first try
	done   chan struct{} // closed when no try is under way any more
	reason string        // why the last try failed; guarded by Manager.mu
	taken  bool          // somebody else has the VM now; guarded by Manager.mu
}

// search tries, in the background, to settle the record of a VM, until that is
// done.
func (m *Manager) search(id, name string) *unreached {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.searchLocked(id, name)
}

// searchLocked is search for callers that hold mu.
func (m *Manager) searchLocked(id, name string) *unreached {
	ctx, cancel := context.WithCancel(m.life)
	u := &unreached{
		cancel: cancel, tried: make(chan struct{}), done: make(chan struct{}),
		reason: "bangerd has just started and is looking for it",
	}
	m.setSlotLocked(id, func(s *slot) { s.lost = u })
	m.tasks.Go(guard.Func("search for a VMM", func() {
		defer close(u.done)
		defer cancel()
		m.searchOn(ctx, id, name, u)
	}))
	return u
}

func (m *Manager) searchOn(ctx context.Context, id, name string, u *unreached) {
	for tries, pause := 0, firstSearchPause; ; pause = min(2*pause, longestSearchPause) {
		err := guard.Run("settle a VM", func() error { return m.trySettle(ctx, id) })
		m.mu.Lock()
		if err == nil {
			m.setSlotLocked(id, func(s *slot) { s.lost = nil })
		} else if ctx.Err() == nil {
			u.reason = err.Error()
		}
		m.mu.Unlock()
		if tries++; tries == 1 {
			close(u.tried)
		}
		if err == nil || ctx.Err() != nil { // whoever ended the search has the VM now
			return
		}
		if tries == 1 {
			m.log.Error("a VM can't be reached; it is tried on", "vm", name, "err", err)
		}
		sleep(ctx, pause)
	}
}

func (m *Manager) trySettle(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	rec, err := m.records.find(ctx, id)
	if err == nil {
		err = rec.broken
	}
	if err != nil {
		return err
	}
	return m.settle(ctx, rec)
}

// takeOver ends the search for a VM. It returns false if none was under way, or
// if it has come to its end: then the VM is an instance, or doesn't run. If ctx
// ends before the search does, that goes on.
func (m *Manager) takeOver(ctx context.Context, rec Record) (bool, error) {
	for {
		u := m.slot(rec.ID).lost
		if u == nil {
			return false, nil
		}
		u.cancel()
		select {
		case <-u.done:
		case <-ctx.Done():
			m.searchAfter(u, rec)
			return false, context.Cause(ctx)
		}
		m.mu.Lock()
		same := m.slots[rec.ID].lost == u
		ours := same && !u.taken
		u.taken = u.taken || ours
		m.mu.Unlock()
		if same {
			return ours, nil
		}
		// It has found the VM, or goes on after another one had given up.
	}
}

// searchAfter begins anew to search for a VM, once a search that was cancelled
// has ended without success.
func (m *Manager) searchAfter(u *unreached, rec Record) {
	m.tasks.Go(guard.Func("search for a VMM again", func() {
		<-u.done
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.slots[rec.ID].lost == u && !u.taken {
			m.searchLocked(rec.ID, rec.Name)
		}
	}))
}

// endUnreached ends the VMM of a VM that bangerd isn't connected to, and tells
// whether there was one.
func (m *Manager) endUnreached(ctx context.Context, rec Record) (bool, error) {
	ours, err := m.takeOver(ctx, rec)
	if err != nil || !ours {
		return false, err
	}
	if err = m.endVMM(ctx, rec); err == nil {
		err = m.noteGone(ctx, rec, "")
	}
	if err != nil {
		m.search(rec.ID, rec.Name)
		return false, err
	}
	m.setSlot(rec.ID, func(s *slot) { s.lost = nil })
	return true, nil
}
