package vm

import (
	"context"

	"banger/internal/api"
)

// Start starts a stopped VM and waits for its guest. If that fails the VM is
// stopped again, except after a time-out or while it is held.
func (m *Manager) Start(ctx context.Context, ref string, req api.StartVM, progress api.ProgressFunc) (_ api.VM, err error) {
	b := m.newBringUp(ctx, progress)
	defer func() { err = b.finish(err) }()
	return b.run(
		b.reserveStopped(ref),
		b.getAssets,
		b.launch,
		b.awaitGuest(req.Wait),
	)
}

// reserveStopped takes a VM that doesn't run.
func (b *bringUp) reserveStopped(ref string) step {
	return func(ctx context.Context) (err error) {
		b.rec, b.unreserve, err = b.begin(ctx, ref, request{operation: opStart, yield: b.cancel})
		return err
	}
}
