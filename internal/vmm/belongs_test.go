package vmm

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
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
