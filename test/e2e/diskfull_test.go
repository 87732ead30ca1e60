//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
)

// smallState returns a second home whose records and disks are on a file system
// of 400 MiB.
func (h *host) smallState(t *testing.T) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	h.create(t, "first", "--no-start") // image and kernel are made at first use
	second := h.secondHome(t)
	state := filepath.Join(second.home, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=400m,mode=700", "tmpfs", state).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := second.stopDaemon(); err != nil { // it would be in the way
			t.Error(err)
		}
		if out, err := exec.Command("umount", state).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return second
}

// TestDiskOfTheHostFull: a VM whose writes have no room on the host is paused,
// says so, and goes on when there is room again; one that is ended instead frees
// its own.
func TestDiskOfTheHostFull(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		small := h.smallState(t)
		small.create(t, "full")
		vm := small.vm(t, "full")
		if vm.Driver != "qemu" {
			t.Skip("this VMM has the guest's writes fail")
		}
		ballast, little := small.occupy(t, "ballast", "190M"), small.occupy(t, "little", "10M")
		// Both together have no room; one alone has.
		fill := small.background(t, "vm", "exec", "full", "--", "dd", "if=/dev/zero", "of=/root/fill", "bs=1M", "count=230", "conv=fsync")
		small.wantState(t, "full", api.StatePaused)
		checkPaused(t, small)
		// Enough for bangerd, which writes a little when it starts, and not for the VM.
		free(t, little)
		small.killDaemon(t)
		small.wantState(t, "full", api.StatePaused)
		checkPaused(t, small)
		fill.wait(t) // its bangerd is gone

		free(t, ballast)
		small.wantState(t, "full", api.StateRunning)
		small.must(t, "vm", "exec", "full", "--", "sh", "-c", "sync; echo kept >/root/kept; sync; test $(stat -c %s /root/fill) -gt 0")

		little = small.occupy(t, "little", "10M")
		more := small.background(t, "vm", "exec", "full", "--", "dd", "if=/dev/zero", "of=/root/more", "bs=1M", "count=800", "conv=fsync")
		small.wantState(t, "full", api.StatePaused)
		free(t, little)
		small.must(t, "vm", "stop", "--force", "full")
		if r := more.wait(t); r.exit == 0 {
			t.Errorf("what it wrote had no room: %s%s", r.stdout, r.stderr)
		}
		small.must(t, "vm", "delete", "--force", "full")
		small.create(t, "next")
		small.must(t, "vm", "exec", "next", "--", "true")
	})
}

// occupy takes so much of the file system with the records and disks.
func (h *host) occupy(t *testing.T, name, size string) (path string) {
	t.Helper()
	path = filepath.Join(h.home, "state", name)
	if out, err := exec.Command("fallocate", "-l", size, path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func free(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func checkPaused(t *testing.T, h *host) {
	t.Helper()
	const why = "the host's disk is full"
	if vm := h.vm(t, "full"); !strings.Contains(vm.Reason, why) {
		t.Errorf("show: %+v", vm)
	}
	if r := h.run(t, "vm", "list"); r.exit != 0 || !strings.Contains(r.stdout, "paused") || !strings.Contains(r.stderr, why) {
		t.Errorf("list: exit %d\n%s%s", r.exit, r.stdout, r.stderr)
	}
	for _, args := range [][]string{{"vm", "exec", "full", "--", "true"}, {"vm", "stop", "full"}} {
		if r := h.run(t, args...); r.exit != 6 || !strings.Contains(r.stderr, why) {
			t.Errorf("%v: exit %d\n%s", args, r.exit, r.stderr)
		}
	}
}
