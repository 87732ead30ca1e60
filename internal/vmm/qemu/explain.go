package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm"
)

// logTail is how much of QEMU's log is read for an error's message, in bytes.
const logTail = 2048

// logPath is where QEMU's own messages go.
func logPath(spec vmm.Spec) string { return filepath.Join(spec.StateDir, "vmm.log") }

// failure is a message of QEMU's that users can do something about.
type failure struct {
	pattern *regexp.Regexp
	code    api.Code
	say     string // with a verb for each of the pattern's groups
	hint    string
}

var failures = []failure{
	{
		regexp.MustCompile(`could not configure /dev/net/tun \(([^)]*)\): Device or resource busy`),
		api.CodeConflict, "the network interface %s is in use by another process", "",
	},
	{
		regexp.MustCompile(`could not configure /dev/net/tun \(([^)]*)\): Operation not permitted`),
		api.CodeHost, "no permission to use the network interface %s", "",
	},
	{
		regexp.MustCompile(`(?i)could not open /dev/net/tun: (.*)`),
		api.CodeHost, "/dev/net/tun can't be opened: %s", "load the module and check the permissions: sudo modprobe tun; ls -l /dev/net/tun",
	},
	{
		regexp.MustCompile(`(?i)cannot set up guest memory.*: (.*)`),
		api.CodeHost, "the host has no memory for this VM: %s", "use a smaller --memory, or stop other VMs",
	},
	{
		regexp.MustCompile(`Could not access KVM kernel module: Permission denied`),
		api.CodeHost, "no permission to use /dev/kvm", "join the group kvm and log in again: sudo usermod -aG kvm $USER",
	},
	{
		regexp.MustCompile(`(?i)failed to get "write" lock|failed to get shared "write" lock`),
		api.CodeConflict, "a disk of this VM is in use by another VMM", "",
	},
	{
		regexp.MustCompile(`Could not open '([^']*)': (.*)`),
		api.CodeHost, "the disk %s can't be opened: %s", "",
	},
	{
		regexp.MustCompile(`could not (?:load|open) kernel(?: file)? '([^']*)': (.*)`),
		api.CodeHost, "the kernel %s can't be loaded: %s", "",
	},
}

// explain turns the log of a QEMU that ended before its monitor answered into
// an error for the user.
func explain(spec vmm.Spec, log string, state *os.ProcessState) error {
	said := guest.Excerpt(lastLines(log, 3))
	for _, f := range failures {
		match := f.pattern.FindStringSubmatch(log)
		if match == nil {
			continue
		}
		var groups []any
		for _, group := range match[1:] {
			groups = append(groups, group)
		}
		return &api.Error{Code: f.code, Msg: fmt.Sprintf(f.say, groups...), Hint: f.hint}
	}
	if said == "" {
		said = describeState(state)
	}
	return api.Errorf(api.CodeHost, "it ended at once: %s", said).
		WithHint("all it said is in %s", logPath(spec))
}

// lastLines returns the last n lines of a log that aren't warnings, in one
// line and without the program's name in front.
func lastLines(log string, n int) string {
	var lines []string
	for line := range strings.Lines(log) {
		line = strings.TrimPrefix(strings.TrimSpace(line), program+": ")
		if line != "" && !strings.HasPrefix(line, "warning: ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}

// describeState tells how a child ended.
func describeState(state *os.ProcessState) string {
	if state == nil {
		return "nothing is known of its end"
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return fmt.Sprintf("it was killed by signal %d (%v)", int(status.Signal()), status.Signal())
	}
	return fmt.Sprintf("it ended with status %d", state.ExitCode())
}
