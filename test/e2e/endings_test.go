//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/vmm/firecracker"
)

// ending is a way in which a VM ends without being asked to by banger.
type ending struct {
	name   string
	bring  func(t *testing.T, h *host, vm api.VM) // about
	reason string                                 // part of what the VM's status says then
}

// TestEndings: however a VM ends, other than by a reboot (see TestReboot), its
// status tells why, nothing of it is left on the host but its files, and it
// starts again with what it had written.
func TestEndings(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		h.create(t, "end")
		h.checkConfined(t, h.vm(t, "end"))
		h.must(t, "vm", "exec", "end", "--", "sh", "-c", "echo kept > /root/kept; sync")
		for _, e := range []ending{
			{"poweroff", inGuest("systemctl poweroff"), "the guest powered off"},
			{"panic", inGuest("echo c > /proc/sysrq-trigger"), "kernel panicked: sysrq triggered crash"},
			{"kill", killVMM, "killed by signal 9"},
			{"out of memory", starveVMM, "for want of memory"},
		} {
			t.Run(e.name, func(t *testing.T) { h.testEnding(t, "end", e) })
		}
	})
}

// checkConfined checks that a Firecracker of root's has a user of its own, in a
// root directory of its own, and a plain user's is that user's.
func (h *host) checkConfined(t *testing.T, vm api.VM) {
	if vm.Driver != firecracker.Name {
		return
	}
	info, err := os.Stat(fmt.Sprintf("/proc/%d", vm.PID))
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.Stat(fmt.Sprintf("/proc/%d/root", vm.PID))
	if err != nil {
		t.Fatal(err)
	}
	ours, err := os.Stat("/")
	if err != nil {
		t.Fatal(err)
	}
	uid := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case h.uid == 0 && (uid < 0x70000000 || os.SameFile(root, ours)):
		t.Errorf("the VMM isn't jailed: its user is %d", uid)
	case h.uid != 0 && uid != h.uid:
		t.Errorf("the VMM's user is %d, not %d", uid, h.uid)
	}
}

func (h *host) testEnding(t *testing.T, name string, e ending) {
	vm := h.vm(t, name)
	if vm.State != api.StateRunning {
		t.Fatalf("the VM is %s", vm.State)
	}
	e.bring(t, h, vm)
	h.eventually(t, func() bool { return h.vm(t, name).State == api.StateStopped })
	if got := h.vm(t, name).Reason; !strings.Contains(got, e.reason) {
		t.Errorf("reason %q, want one with %q", got, e.reason)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", vm.PID)); err == nil {
		t.Error("the VMM's process is still there")
	}
	h.eventually(t, func() bool { return len(h.networkState(t)) == 0 }) // cleaned up behind the answer
	h.must(t, "vm", "start", name)
	if got := h.must(t, "vm", "exec", name, "--", "cat", "/root/kept"); got != "kept\n" {
		t.Errorf("after the restart the file holds %q", got)
	}
}

// inGuest runs a command that ends the guest, and maybe its own connection
// before it has ended itself.
func inGuest(command string) func(*testing.T, *host, api.VM) {
	return func(t *testing.T, h *host, vm api.VM) {
		h.run(t, "vm", "exec", vm.Name, "--", "sh", "-c", command)
	}
}

func killVMM(t *testing.T, _ *host, vm api.VM) {
	if err := syscall.Kill(vm.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// starveVMM makes the kernel kill the VMM for want of memory: in a control group
// that may have little more than it has already, while the guest takes more.
func starveVMM(t *testing.T, h *host, vm api.VM) {
	const root = "/sys/fs/cgroup"
	var stat unix.Statfs_t
	if err := unix.Statfs(root, &stat); err != nil || stat.Type != unix.CGROUP2_SUPER_MAGIC || os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root and version 2 of control groups")
	}
	group := filepath.Join(root, "banger-e2e-"+h.name)
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skipf("SKIPPED: can't make a control group: %v", err)
	}
	t.Cleanup(func() {
		h.eventually(t, func() bool { return os.Remove(group) == nil })
	})
	for file, value := range map[string]string{
		"memory.max": "67108864", "memory.swap.max": "0", "cgroup.procs": fmt.Sprint(vm.PID),
	} {
		err := os.WriteFile(filepath.Join(group, file), []byte(value), 0)
		if err != nil && file != "memory.swap.max" { // missing where the host can't swap
			t.Skipf("SKIPPED: can't limit memory: %v", err)
		}
	}
	h.run(t, "vm", "exec", vm.Name, "--", "sh", "-c", "head -c 500M /dev/zero > /dev/shm/fill")
}
