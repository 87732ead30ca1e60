package qemu

import (
	"cmp"

	"banger/internal/vmm"
)

// ending is what was heard before QEMU ended.
type ending struct {
	vmm.End
	shutdown string // reason of the SHUTDOWN event, ShutdownCause in QEMU's qapi/run-state.json
	log      string // the end of QEMU's own messages
}

// describe tells in words why QEMU ended.
func (e ending) describe() string {
	switch e.shutdown {
	case "guest-shutdown":
		return "the guest powered off"
	case "guest-reset", "guest-panic":
		// A kernel without a pvpanic driver resets when it has panicked.
		if message := vmm.FindPanic(e.Console); message != "" {
			return "the guest's kernel panicked: " + message
		}
		if e.shutdown == "guest-panic" {
			return "the guest's kernel panicked"
		}
		return vmm.Rebooted
	case "host-signal", "host-error", "subsystem-reset":
		return "QEMU ended: " + cmp.Or(lastLines(e.log, 1), e.shutdown)
	}
	switch {
	case e.Killed:
		return "it was killed on request"
	case e.shutdown != "":
		return "QEMU ended: " + e.shutdown
	case e.State == nil:
		return ""
	case e.State.Success():
		return "QEMU ended"
	}
	reason := "QEMU ended: " + describeState(e.State)
	if e.ByOOM() {
		return reason + vmm.ByOOM
	}
	if said := lastLines(e.log, 1); said != "" {
		reason += ": " + said
	}
	return reason
}
