package vmm

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// runIn starts a process that works in a directory until the test ends.
func runIn(t *testing.T, dir, root string) int {
	t.Helper()
	cmd := exec.Command("/cat")
	if root == "" {
		cmd = exec.Command("cat")
	}
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("SKIPPED: can't change the root directory: %v", err)
	}
	t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

func TestPlacesKnowTheirProcesses(t *testing.T) {
	dir := t.TempDir()
	p := Places{StateDir: filepath.Join(dir, "state"), RuntimeDir: filepath.Join(dir, "run")}
	alias := filepath.Join(dir, "alias")
	for _, d := range []string{p.StateDir, p.RuntimeDir} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(p.RuntimeDir, alias); err != nil {
		t.Fatal(err)
	}
	pid, stranger := runIn(t, p.RuntimeDir, ""), runIn(t, p.StateDir, "")
	for _, places := range []Places{p, {StateDir: p.StateDir, RuntimeDir: alias}} {
		got, err := places.Processes()
		if err != nil || !slices.Equal(got, []int{pid}) {
			t.Errorf("in %s: got %v, %v; want %d, without %d", places.RuntimeDir, got, err, pid, stranger)
		}
	}
	if err := os.Remove(p.RuntimeDir); err != nil {
		t.Fatal(err)
	}
	if ours, err := p.Has(pid); err != nil || !ours {
		t.Errorf("once its directory was removed: %v, %v", ours, err)
	}
	if _, err := p.Has(1 << 30); err == nil {
		t.Error("a process that doesn't exist was looked at")
	}
}

// At a log-out the directory for sockets is emptied, then unmounted.
func TestPlacesOfUnmountedDirectories(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("banger", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("SKIPPED: can't mount: %v", err)
	}
	mounted := true
	t.Cleanup(func() {
		if mounted {
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	p := Places{StateDir: t.TempDir(), RuntimeDir: filepath.Join(dir, "banger", "vms", "0123456789ab")}
	other := filepath.Join(dir, "banger", "vms", "ba9876543210")
	for _, d := range []string{p.RuntimeDir, other} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	pid, stranger := runIn(t, p.RuntimeDir, ""), runIn(t, other, "")
	if err := os.RemoveAll(filepath.Join(dir, "banger")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	mounted = false
	if got, err := p.Processes(); err != nil || !slices.Equal(got, []int{pid}) {
		t.Errorf("got %v, %v; want %d, without %d", got, err, pid, stranger)
	}
}

// A shell that looks around in a VM's directory is not the VM's.
func TestPlacesOfATerminal(t *testing.T) {
	p := Places{StateDir: t.TempDir(), RuntimeDir: t.TempDir()}
	cmd := exec.Command("cat")
	cmd.Dir = p.RuntimeDir
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close(); _ = cmd.Wait() })
	if got, err := p.Processes(); err != nil || len(got) > 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

// A jailed VMM's root directory is below the VM's files.
func TestPlacesKnowJailedProcesses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root")
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("SKIPPED: needs a static busybox")
	}
	p := Places{StateDir: t.TempDir(), RuntimeDir: t.TempDir()}
	root := filepath.Join(p.StateDir, "jail", "firecracker", "x", "root")
	if err := os.MkdirAll(root, 0o700); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(busybox)
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "cat"), program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	pid := runIn(t, "/", root)
	if got, err := p.Processes(); err != nil || !slices.Equal(got, []int{pid}) {
		t.Errorf("got %v, %v; want %d", got, err, pid)
	}
	other := Places{StateDir: t.TempDir(), RuntimeDir: t.TempDir()}
	if got, err := other.Processes(); err != nil || len(got) > 0 {
		t.Errorf("another VM has %v, %v", got, err)
	}
}
