package vm

import (
	"errors"

	"banger/internal/api"
	"banger/internal/guard"
)

// mayReboot tells whether a guest's reset of its machine is a reboot: stopping a
// VM ends with one too, and a guest that resets while it boots would go on for
// ever. A VM that goes with its session goes.
func (r *Record) mayReboot() bool { return r.Stage == StageReady && !r.Stopping && !r.Doomed }

// startRebooted starts the VM of an ended instance, whose guest rebooted, unless
// somebody else does something with it first.
func (m *Manager) startRebooted(i *instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life.Err() != nil {
		return // Close may be waiting for the tasks already
	}
	m.tasks.Go(guard.Func("start a VM that rebooted", func() {
		// Nobody waits for its end, and the VM can be stopped once it boots.
		_, err := m.Start(m.life, i.id, api.StartVM{Wait: api.WaitAgent}, nil)
		if err != nil && m.life.Err() == nil && !errors.Is(err, errForced) {
			m.log.Error("start a VM that rebooted", "vm", i.name, "err", err)
		}
	}))
}
