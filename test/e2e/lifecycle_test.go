//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger/internal/api"
)

// TestStopAndStart: what was written is there after a restart, and a stopped VM
// has nothing on the host but its files.
func TestStopAndStart(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "again")
		h.must(t, "vm", "exec", "again", "--", "sh", "-c", "echo kept > /root/real; echo kept > /etc/overlaid")
		id := h.must(t, "vm", "exec", "again", "--", "cat", "/etc/machine-id")
		h.must(t, "vm", "stop", "again")
		vm := h.vm(t, "again")
		if vm.State != api.StateStopped {
			t.Fatalf("state %s after stop", vm.State)
		}
		if left := h.networkState(t); len(left) > 0 {
			t.Errorf("a stopped VM keeps %v", left)
		}
		if r := h.run(t, "vm", "exec", "again", "--", "true"); r.exit != 5 || !strings.Contains(r.stderr, "banger vm start again") {
			t.Errorf("exec in a stopped VM: exit %d\n%s", r.exit, r.stderr)
		}
		h.must(t, "vm", "start", "again")
		if got := h.must(t, "vm", "exec", "again", "--", "cat", "/root/real", "/etc/overlaid"); got != "kept\nkept\n" {
			t.Errorf("after a restart: %q", got)
		}
		if got := h.must(t, "vm", "exec", "again", "--", "cat", "/etc/machine-id"); got != id {
			t.Errorf("machine-id changed from %q to %q", id, got)
		}
	})
}

// TestKilledDaemon: the next command finds the VM running and works in it.
func TestKilledDaemon(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		h.create(t, "orphan")
		before := h.vm(t, "orphan")
		if err := syscall.Kill(h.daemonPID(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if got := h.must(t, "vm", "exec", "orphan", "--", "echo", "alive"); got != "alive\n" {
			t.Errorf("exec after the daemon's death: %q", got)
		}
		if after := h.vm(t, "orphan"); after.PID != before.PID || after.State != api.StateRunning {
			t.Errorf("was %s with pid %d, is %s with pid %d", before.State, before.PID, after.State, after.PID)
		}
	})
}

// TestBootTimeout: a guest that isn't ready in time is kept, and the error says
// where to look, with --rm as well.
func TestBootTimeout(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.restartWithConfig(t, "boot_timeout = '50ms'\n")
		r := h.run(t, "vm", "run", "--rm", "--name", "slow", "--", "true")
		t.Cleanup(func() { h.run(t, "vm", "delete", "--force", "slow") })
		if r.exit != 7 || !strings.Contains(r.stderr, "banger vm logs slow") {
			t.Errorf("exit %d\n%s", r.exit, r.stderr)
		}
		if vm := h.vm(t, "slow"); vm.State != api.StateStarting {
			t.Errorf("the VM is %s", vm.State)
		}
	})
}

// TestInterruptedCreate: Ctrl-C in the middle of a create leaves nothing.
func TestInterruptedCreate(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		cmd := h.command(t.Context(), "vm", "create", "--name", "cut")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		h.eventually(t, func() bool { return h.run(t, "vm", "show", "cut").exit == 0 })
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // its exit status is looked at next
		if got := cmd.ProcessState.ExitCode(); got != 130 {
			t.Errorf("exit %d, want 130", got)
		}
		h.eventually(t, func() bool { return h.run(t, "vm", "show", "cut").exit == 4 })
	})
}

// TestKilledCreate: so does a bangerd that is killed in the middle of one.
func TestKilledCreate(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		cmd := h.command(t.Context(), "vm", "create", "--name", "cut")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		h.eventually(t, func() bool {
			r := h.run(t, "vm", "show", "cut", "--json")
			return strings.Contains(r.stdout, `"pid"`)
		})
		if err := syscall.Kill(h.daemonPID(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("the create succeeded without its daemon")
		}
		if r := h.run(t, "vm", "show", "cut"); r.exit != 4 {
			t.Errorf("the half-made VM is still there: exit %d", r.exit)
		}
	})
}

// eventually polls until the condition holds.
func (h *host) eventually(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("it didn't happen in time")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (h *host) daemonPID(t testing.TB) int {
	t.Helper()
	var status struct{ PID int }
	if err := json.Unmarshal([]byte(h.must(t, "daemon", "status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	if status.PID == 0 {
		t.Fatal("the daemon's pid is unknown")
	}
	return status.PID
}

// restartWithConfig runs bangerd with more configuration until the test ends. A
// key must not be in BANGER_E2E_CONFIG as well.
func (h *host) restartWithConfig(t *testing.T, config string) {
	t.Helper()
	path := filepath.Join(h.home, "config/config.toml")
	if err := os.WriteFile(path, []byte(baseConfig()+config), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must(t, "daemon", "restart")
	t.Cleanup(func() {
		if err := h.configure(); err != nil {
			t.Error(err)
		}
		h.must(t, "daemon", "restart")
	})
}

// TestReboot: a guest that reboots comes up again, with its disk; it goes down
// without complaints, on whatever driver.
func TestReboot(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "again")
		boot := func() string {
			return h.run(t, "vm", "exec", "again", "--", "cat", "/proc/sys/kernel/random/boot_id").stdout
		}
		h.must(t, "vm", "exec", "again", "--", "sh", "-c", "echo kept > /root/kept")
		before := boot()
		h.run(t, "vm", "exec", "again", "--", "reboot") // its session may end with the guest
		now := before
		for deadline := time.Now().Add(5 * time.Minute); now == before || now == ""; now = boot() {
			if time.Now().After(deadline) {
				t.Fatalf("it didn't come up again: %+v", h.vm(t, "again"))
			}
			time.Sleep(time.Second)
		}
		if got := h.must(t, "vm", "exec", "again", "--", "cat", "/root/kept"); got != "kept\n" {
			t.Errorf("after the reboot: %q", got)
		}
		if vm := h.vm(t, "again"); vm.State != api.StateRunning && vm.State != api.StateStarting {
			t.Errorf("after the reboot it is %s", vm.State)
		}
		h.must(t, "vm", "stop", "again")
		// A session that was open has its own directory busy; the modules' never is.
		if log := h.must(t, "vm", "logs", "again"); strings.Contains(log, "modules") {
			t.Errorf("the console of the shutdowns:\n%s", log)
		}
	})
}
