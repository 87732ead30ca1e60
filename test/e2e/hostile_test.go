//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"banger/internal/vmm/qemu"
)

// TestConsoleFlood: a guest that prints to its console without end doesn't fill
// the host's disk.
func TestConsoleFlood(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "flood")
		h.must(t, "vm", "exec", "flood", "--", "sh", "-c",
			"setsid sh -c 'while :; do head -c 1M /dev/urandom | base64; done' >/dev/ttyS0 2>&1 </dev/null &")
		console := filepath.Join(h.home, "state/vms", h.vm(t, "flood").ID, "console.log")
		size := func(path string) int64 {
			info, err := os.Stat(path)
			if err != nil {
				return 0
			}
			return info.Size()
		}
		var most int64
		h.eventually(t, func() bool { // it has been cut
			most = max(most, size(console)+size(console+".1"))
			return size(console+".1") > 0
		})
		t.Logf("the console took %d KiB at most", most>>10)
		// 4 MiB, and what a serial port writes between two looks.
		if most > 32<<20 {
			t.Errorf("the console took %d MiB", most>>20)
		}
		if got := h.must(t, "vm", "exec", "flood", "--", "echo", "alive"); got != "alive\n" {
			t.Errorf("the guest answers %q", got)
		}
	})
}

// TestEvilGuest: root in a guest takes the agent's place. It can't hurt bangerd
// or other VMs, and banger can still end it.
func TestEvilGuest(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "evil")
		if driver := h.vm(t, "evil").Driver; driver != qemu.Name {
			t.Skipf("SKIPPED: %s has no serial port to the agent", driver)
		}
		h.create(t, "good")
		h.must(t, "vm", "exec", "evil", "--", "true")
		memory, log := h.daemonMemory(t), h.daemonLogSize(t)

		const seconds = 40
		h.startEvilGuest(t, "evil", seconds)
		var most int64
		for end := time.Now().Add(seconds * time.Second); time.Now().Before(end); {
			h.must(t, "vm", "list")
			if got := h.must(t, "vm", "exec", "good", "--", "echo", "alive"); got != "alive\n" {
				t.Errorf("the other guest answers %q", got)
			}
			most = max(most, h.daemonMemory(t)-memory)
		}
		wrote := h.daemonLogSize(t) - log
		t.Logf("bangerd took %d MiB more at most, and logged %d bytes", most>>20, wrote)
		if most > 64<<20 || wrote > 64<<10 {
			t.Errorf("bangerd took %d MiB more, and logged %d bytes", most>>20, wrote)
		}
		if got := h.must(t, "vm", "exec", "evil", "--", "echo", "itself again"); got != "itself again\n" {
			t.Errorf("the agent, back again, answers %q", got)
		}
		h.startEvilGuest(t, "evil", 600)
		h.must(t, "vm", "delete", "--force", "evil")
	})
}

// startEvilGuest builds package evilguest and runs it in a VM.
func (h *host) startEvilGuest(t *testing.T, vm string, seconds int) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "evilguest")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", program, "./evilguest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build evilguest: %v: %s", err, out)
	}
	code, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	install := fmt.Sprintf("cat > /root/evil && chmod +x /root/evil && { setsid /root/evil %d </dev/null >/root/evil.log 2>&1 & }", seconds)
	if r := h.runWithInput(t, string(code), "vm", "exec", vm, "--", "sh", "-c", install); r.exit != 0 {
		t.Fatalf("start evilguest: exit %d\n%s", r.exit, r.stderr)
	}
}

// daemonMemory returns how much memory bangerd has at the moment, in bytes.
func (h *host) daemonMemory(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.daemonPID(t)))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmRSS:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("/proc doesn't tell how much memory bangerd has")
	return 0
}

func (h *host) daemonLogSize(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(h.home, "state/bangerd.log"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
