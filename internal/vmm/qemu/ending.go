package qemu

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"banger/internal/vmm"
)

// consoleTail is how much of the console is searched for a panic, in bytes: a
// panic's message is followed by a few screens of registers and stack.
const consoleTail = 64 << 10

// consoleHeader begins the line that separates the boots in a console log.
const consoleHeader = "[banger] "

// panicMessage matches what a Linux kernel says last.
var panicMessage = regexp.MustCompile(`Kernel panic - not syncing: ([^\r\n]*)`)

// ending is what was heard before QEMU ended.
type ending struct {
	killed   bool   // by Machine.Kill
	shutdown string // reason of the SHUTDOWN event, ShutdownCause in QEMU's qapi/run-state.json
}

// describe tells in words why QEMU ended. console and log are the ends of the
// VM's console and QEMU's own messages; state is nil if QEMU was no child.
func (e ending) describe(console, log string, state *os.ProcessState) string {
	switch e.shutdown {
	case "guest-shutdown":
		return "the guest powered off"
	case "guest-reset", "guest-panic":
		// A kernel without a pvpanic driver resets when it has panicked.
		if message := findPanic(console); message != "" {
			return "the guest's kernel panicked: " + message
		}
		if e.shutdown == "guest-panic" {
			return "the guest's kernel panicked"
		}
		return "the guest rebooted"
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
	if said := lastLines(log, 1); said != "" {
		reason += ": " + said
	}
	return reason
}

// findPanic returns the message of a panic in the last boot on a console.
func findPanic(console string) string {
	if i := strings.LastIndex(console, consoleHeader); i >= 0 {
		console = console[i:]
	}
	match := panicMessage.FindStringSubmatch(console)
	if match == nil {
		return ""
	}
	return match[1]
}

// beginConsole starts a boot on the console's log, which keeps the earlier
// ones. QEMU would create it readable for everybody.
func beginConsole(spec vmm.Spec, accel string) error {
	console, err := os.OpenFile(spec.Console, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("create console log: %w", err)
	}
	_, err = fmt.Fprintf(console, "%s%s QEMU starts (%s)\n", consoleHeader, time.Now().UTC().Format(time.RFC3339), accel)
	if closeErr := console.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write console log: %w", err)
	}
	return nil
}
