package vm

import (
	"context"
	"errors"
	"slices"
	"time"

	"banger/internal/guard"
	"banger/internal/vmm"
)

const (
	// mendInterval is the pause between two looks at the VMs' network when the
	// host tells of no change.
	mendInterval = 30 * time.Second
	// mendPause is the least time between two looks: changes come many at once,
	// and somebody may undo again and again what is put right.
	mendPause = time.Second
)

// keepNetwork looks after the network of running VMs until bangerd ends: what
// others change of it is put right, whenever the host tells of a change and now
// and then anyway. settled tells whether Reconcile has put all of it right; if
// not, that is tried again too.
func (m *Manager) keepNetwork(settled bool) {
	m.tasks.Go(guard.Func("look after the network", func() {
		changes, err := m.cfg.Network.Watch(m.life)
		if err != nil {
			m.log.Warn("changes of the host's network aren't noticed at once", "err", err)
		}
		for {
			select {
			case <-changes:
			case <-time.After(mendInterval):
			case <-m.life.Done():
				return
			}
			// A panic is logged; the next change is another matter.
			_ = guard.Run("put the network right", func() error {
				if !settled {
					settled = m.reconcileNetwork(m.life) == nil
				}
				m.mendAll(m.life)
				return nil
			})
			sleep(m.life, mendPause)
		}
	}))
}

// mendAll puts the network of all running VMs right, and lets others in between
// two of them.
func (m *Manager) mendAll(ctx context.Context) {
	m.mu.Lock()
	alive := slices.DeleteFunc(m.instances(), func(i *instance) bool { return !i.alive() })
	m.mu.Unlock()
	for _, inst := range alive {
		m.mend(ctx, inst)
	}
}

// mend puts the network of a running VM right, or notes why it has none.
func (m *Manager) mend(ctx context.Context, inst *instance) {
	err := m.cfg.Network.Mend(ctx, inst.id, func() error {
		err := inst.machine.ReattachTap()
		if err == nil {
			m.log.Info("a VM has its network again", "vm", inst.name)
		}
		return err
	})
	if errors.Is(err, vmm.ErrGone) || ctx.Err() != nil || !inst.alive() {
		return // one that has ended has lost nothing
	}
	m.noteNetwork(inst, err)
}

// noteNetwork notes why a VM has no network; nil says that it has one.
func (m *Manager) noteNetwork(inst *instance, err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	m.mu.Lock()
	changed := inst.offline != reason
	inst.offline = reason
	m.mu.Unlock()
	if changed && err != nil {
		m.log.Error("a VM has no network", "vm", inst.name, "err", err)
	}
}
