package qemu

import (
	"cmp"
	"os"
	"syscall"

	"banger/internal/vmm"
)

// ending is what was heard before QEMU ended.
type ending struct {
	killed   bool   // by Machine.Kill
	shutdown string // reason of the SHUTDOWN event, ShutdownCause in QEMU's qapi/run-state.json
	oomKills bool   // the host's kernel has killed processes for want of memory meanwhile
}

// describe tells in words why QEMU ended. console and log are the ends of the
// VM's console and QEMU's own messages; state is nil if QEMU was no child.
func (e ending) describe(console, log string, state *os.ProcessState) string {
	switch e.shutdown {
	case "guest-shutdown":
		return "the guest powered off"
	case "guest-reset", "guest-panic":
		// A kernel without a pvpanic driver resets when it has panicked.
		if message := vmm.FindPanic(console); message != "" {
			return "the guest's kernel panicked: " + message
		}
		if e.shutdown == "guest-panic" {
			return "the guest's kernel panicked"
		}
		return vmm.Rebooted
	case "host-signal", "host-error", "subsystem-reset":
		return "QEMU ended: " + cmp.Or(lastLines(log, 1), e.shutdown)
	}
	switch {
	case e.killed:
		return "it was killed on request"
	case e.shutdown != "":
		return "QEMU ended: " + e.shutdown
	case state == nil:
		return ""
	case state.Success():
		return "QEMU ended"
	}
	reason := "QEMU ended: " + describeState(state)
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGKILL && e.oomKills {
		return reason + vmm.ByOOM
	}
	if said := lastLines(log, 1); said != "" {
		reason += ": " + said
	}
	return reason
}
