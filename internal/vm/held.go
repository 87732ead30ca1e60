package vm

import (
	"context"

	"banger/internal/guard"
	"banger/internal/room"
	"banger/internal/vmm"
)

// heldUp ends the work on a guest that its VMM has stopped: that may take as
// long as the host has no space, and whoever waits is told.
type heldUp struct {
	why  string
	told error
}

func (h *heldUp) Error() string { return h.told.Error() }
func (h *heldUp) Unwrap() error { return h.told }

// littleSpace is how many bytes are as good as none where a VMM doesn't tell
// that it can't write.
const littleSpace = 1 << 20

// space tells why the guest is stopped by its VMM, or, where a VMM doesn't do
// that, whether there is no space for what the guest writes.
func (i *instance) space() (held string, none bool) {
	if holder, ok := i.machine.(vmm.Holder); ok {
		held, _ = holder.Held()
		return held, false
	}
	left, err := room.Free(i.manager.cfg.Layout.VMDir(i.id))
	return "", err == nil && left < littleSpace
}

// cutWhenHeld cancels work on the guest when its VMM stops it, with a *heldUp.
func (i *instance) cutWhenHeld(ctx context.Context, cancel context.CancelCauseFunc) {
	holder, ok := i.machine.(vmm.Holder)
	if !ok {
		return
	}
	check := func() (why string, changed <-chan struct{}) {
		if why, changed = holder.Held(); why != "" {
			cancel(&heldUp{why, heldError("VM %q is paused: %s", Record{Name: i.name}, why)})
		}
		return why, changed
	}
	if why, _ := check(); why != "" {
		return
	}
	guard.Go("watch whether a guest is held", func() {
		for {
			why, changed := check()
			if why != "" {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
}
