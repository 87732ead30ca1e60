package vm

import (
	"context"
	"errors"
	"slices"
	"time"

	"banger/internal/guard"
	"banger/internal/network"
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
	for _, inst := range m.mendBridge(ctx) {
		m.mendNow(ctx, inst)
	}
}

// mendNow is mend for a caller that doesn't hold netMu.
func (m *Manager) mendNow(ctx context.Context, inst *instance) {
	m.netMu.Lock()
	defer m.netMu.Unlock()
	if inst.alive() {
		m.mend(ctx, inst)
	}
}

// mendBridge puts right what VMs have in common, and returns those that have it
// now. The others' error is noted with netMu still held: a VM that starts later
// has seen to the bridge itself.
func (m *Manager) mendBridge(ctx context.Context) []*instance {
	m.netMu.Lock()
	defer m.netMu.Unlock()
	alive := m.alive()
	if len(alive) == 0 {
		return nil
	}
	err := m.cfg.Network.Mend(ctx)
	if err == nil {
		return alive
	}
	for _, inst := range alive {
		m.noteNetwork(inst, err)
	}
	return nil
}

// alive are the VMs that run.
func (m *Manager) alive() []*instance {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(m.instances(), func(i *instance) bool { return !i.alive() })
}

// mend puts the network of a running VM right, or notes why it has none. The
// caller holds netMu.
func (m *Manager) mend(ctx context.Context, inst *instance) {
	open, err := m.cfg.Network.MendTap(ctx, network.TapName(inst.id), inst.ip)
	if err == nil && !open {
		err = inst.machine.ReattachTap()
		if err == nil {
			m.log.Info("a VM has its network again", "vm", inst.name)
		}
	}
	if err == nil {
		err = m.cfg.Network.SetHostPorts(ctx, inst.ip, inst.hostPorts)
	}
	if errors.Is(err, vmm.ErrGone) || ctx.Err() != nil {
		return
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
