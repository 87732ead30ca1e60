//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger/internal/api"
)

// freeze stops a process until the returned function, or the test's end, lets it
// go on.
func freeze(t *testing.T, pid int) (thaw func()) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	thaw = func() { _ = syscall.Kill(pid, syscall.SIGCONT) } // it may have ended
	t.Cleanup(thaw)
	return thaw
}

// awaitCall waits until a command has connected to bangerd: it heeds signals
// then.
func (h *host) awaitCall(t *testing.T, b *background) {
	t.Helper()
	fds := fmt.Sprintf("/proc/%d/fd", b.cmd.Process.Pid)
	h.eventually(t, func() bool {
		entries, err := os.ReadDir(fds)
		if err != nil {
			return false // the command's own wait tells more
		}
		for _, entry := range entries {
			if to, err := os.Readlink(filepath.Join(fds, entry.Name())); err == nil && strings.HasPrefix(to, "socket:") {
				return true
			}
		}
		return false
	})
}

// TestFrozenDaemon: a bangerd that is stopped keeps nobody waiting without a
// word, and loses nothing.
func TestFrozenDaemon(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "web")
		pid := h.daemonPID(t)
		thaw := freeze(t, pid)
		for _, args := range [][]string{
			{"vm", "list"},
			{"vm", "exec", "web", "--", "true"},
			{"daemon", "status"},
			{"daemon", "stop"},
		} {
			r := h.run(t, args...)
			if r.exit != 3 || !strings.Contains(r.stderr, fmt.Sprintf("bangerd, pid %d, does not answer", pid)) {
				t.Errorf("banger %s: exit %d\n%s", strings.Join(args, " "), r.exit, r.stderr)
			}
		}
		h.testSignalled(t, "vm", "exec", "web", "--", "true")
		thaw()
		h.must(t, "vm", "exec", "web", "--", "true")
	})
}

// testSignalled checks that the first signal ends a command that waits.
func (h *host) testSignalled(t *testing.T, args ...string) {
	t.Helper()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		b := h.background(t, args...)
		h.awaitCall(t, b)
		if err := b.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if r := b.wait(t); r.exit != 130 || !strings.Contains(r.stderr, "cancelled") {
			t.Errorf("after %v: exit %d\n%s", sig, r.exit, r.stderr)
		}
	}
}

// TestWedgedGuestIsGivenUp: a VMM that is stopped looks like a guest that hangs.
func TestWedgedGuestIsGivenUp(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "web")
		thaw := freeze(t, h.vm(t, "web").PID)
		h.testSignalled(t, "vm", "exec", "web", "--", "true")
		if r := h.run(t, "vm", "exec", "web", "--", "true"); r.exit != 7 || !strings.Contains(r.stderr, "the guest does not answer") {
			t.Errorf("exec: exit %d\n%s", r.exit, r.stderr)
		}
		thaw()
		h.must(t, "vm", "exec", "web", "--", "true")
	})
}

// TestKilledDaemonEndsSessions: the guest hangs up the commands of a bangerd that
// was killed, although none comes after it.
func TestKilledDaemonEndsSessions(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "web")
		vm := h.vm(t, "web")
		command := h.background(t, "vm", "exec", "web", "--", "sh", "-c",
			`trap 'echo "hung up" >/dev/console; exit' HUP; echo running >/dev/console; while :; do sleep 1; done`)
		console := func(word string) bool {
			text, err := os.ReadFile(filepath.Join(h.home, "state", "vms", vm.ID, "console.log"))
			return err == nil && strings.Contains(string(text), word)
		}
		h.eventually(t, func() bool { return console("running") })
		h.killDaemon(t)
		if r := command.wait(t); r.exit != 125 {
			t.Errorf("the command: exit %d\n%s", r.exit, r.stderr)
		}
		h.eventually(t, func() bool { return console("hung up") })
		h.wantState(t, "web", api.StateRunning)
	})
}
