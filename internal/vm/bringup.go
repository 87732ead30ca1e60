package vm

import (
	"context"
	"errors"

	"banger/internal/api"
	"banger/internal/image"
	"banger/internal/kernel"
	"banger/internal/network"
	"banger/internal/undo"
)

// bringUp is a VM on its way from a request, or from a record, to a guest that has
// booted. Create and Start are lists of its steps.
type bringUp struct {
	*Manager
	ctx       context.Context // ends as well when a forced request takes the VM
	cancel    context.CancelCauseFunc
	rec       Record // as it was stored last
	cargo     cargo
	assets    assets
	nic       network.NIC
	inst      *instance // since its VMM runs
	undo      *undo.Stack
	phases    *phases
	unreserve func() // makes the VM free again; nil until it is reserved
}

// step is a part of a bringUp. What it makes it adds to undo.
type step func(ctx context.Context) error

// assets is what a VM boots from; it is shared by many VMs.
type assets struct {
	image     image.Image
	release   func() // lets image and kernel be replaced; nil if they aren't held
	kernel    kernel.Kernel
	initramfs string
}

func (m *Manager) newBringUp(ctx context.Context, progress api.ProgressFunc) *bringUp {
	ctx, cancel := context.WithCancelCause(ctx)
	return &bringUp{Manager: m, ctx: ctx, cancel: cancel, undo: undo.New(), phases: newPhases(progress)}
}

// run takes the steps, until one fails, and describes the VM. The caller calls
// finish with the error.
func (b *bringUp) run(steps ...step) (api.VM, error) {
	if err := b.take(b.ctx, steps...); err != nil {
		return api.VM{}, err
	}
	return describe(b.rec, b.facts(b.rec)), nil
}

// take takes the steps, until one fails.
func (b *bringUp) take(ctx context.Context, steps ...step) error {
	for _, s := range steps {
		if err := s(ctx); err != nil {
			return err
		}
	}
	return nil
}

// finish takes back what was made, if err says that it failed and the VM can't be
// kept, and lets go of what was held meanwhile.
func (b *bringUp) finish(err error) error {
	if err != nil {
		err = b.keepWaiting(err)
	}
	err = b.undo.Finish(err)
	if b.assets.release != nil {
		b.assets.release()
	}
	if b.unreserve != nil {
		b.unreserve()
	}
	b.cancel(nil)
	return err
}

// unbooted is a guest whose init has given up. Its agent answers all the same.
type unbooted struct{ why string }

func (u *unbooted) Error() string { return u.why }

// keepWaiting drops the undo steps if err is no more than a wait that took too
// long, since the VM may be slow rather than broken, or a guest that says that it
// won't boot to its end, since there is more to be learnt of either; or if the
// guest has booted and is held, since it goes on by itself. One that is to go with
// its caller goes.
func (b *bringUp) keepWaiting(err error) error {
	if errors.Is(context.Cause(b.ctx), errForced) {
		if b.inst != nil && b.inst.alive() && !b.rec.Doomed {
			_ = b.undo.Finish(nil) // drops the steps; whoever forced it ends the VMM
		}
		return errForced
	}
	var held *heldUp
	var ill *unbooted
	waits := errors.As(err, &held) && b.rec.Stage.hasGuest() && !b.rec.Doomed
	kept := errors.Is(err, api.ErrTimeout) || errors.As(err, &ill)
	if !waits && (b.rec.Temporary || !kept) {
		return b.givenUp(err)
	}
	_ = b.undo.Finish(nil) // drops the steps; can't fail
	if waits {
		return held.told
	}
	if err := b.update(b.ctx, func(r *Record) { r.Doomed = false }); err != nil {
		return err
	}
	if ill != nil {
		return keptError(b.rec, api.Errorf(api.CodeGuest, "the guest of VM %q didn't boot to its end: %s; the VM is kept", b.rec.Name, ill.why))
	}
	return keptError(b.rec, api.Errorf(api.CodeTimeout, "the guest of VM %q was not ready within %s; the VM is kept", b.rec.Name, b.bootLimit(b.rec)))
}

// givenUp is for an error that ends a VM. What comes of being held says that nobody
// is to wait for that one; others stay as they are.
func (b *bringUp) givenUp(err error) error {
	var held *heldUp
	var ill *unbooted
	switch {
	case errors.As(err, &held):
		return api.Errorf(api.CodeHost, "VM %q can't go on and was given up: %s", b.rec.Name, held.why).
			WithHint("free some space and try again")
	case errors.As(err, &ill):
		return api.Errorf(api.CodeGuest, "the guest of VM %q didn't boot to its end: %s", b.rec.Name, ill.why)
	}
	return err
}

// keptError completes an error for a VM that stays.
func keptError(rec Record, e *api.Error) error {
	e = e.WithHint("banger vm logs %s shows what it does; banger vm delete --force %s removes it", rec.Name, rec.Name)
	e.VM = rec.Name
	return e
}

// update changes the stored record.
func (b *bringUp) update(ctx context.Context, change func(*Record)) error {
	rec, err := b.records.update(ctx, b.rec.ID, change)
	if err == nil {
		b.rec = rec
	}
	return err
}

// getAssets finds image, kernel and initramfs, or gets them.
func (b *bringUp) getAssets(ctx context.Context) (err error) {
	var releaseImage, releaseKernel func()
	a, progress := &b.assets, b.phases.progress
	err = b.phases.measure("image", func() (err error) {
		a.image, releaseImage, err = b.cfg.Images.Use(ctx, b.rec.Image, progress)
		return err
	})
	if err != nil {
		return err
	}
	a.release = releaseImage
	err = b.phases.measure("kernel", func() (err error) {
		a.kernel, releaseKernel, err = b.cfg.Kernels.Use(ctx, a.image.Kernel, progress)
		return err
	})
	if err != nil {
		return err
	}
	a.release = func() { releaseImage(); releaseKernel() }
	a.initramfs, err = b.cfg.Initramfs(a.kernel)
	return err
}
