package qemu

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/vmm"
)

// exited returns how a shell with this script ends.
func exited(t *testing.T, script string) *os.ProcessState {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState
}

func TestDescribeEnding(t *testing.T) {
	const (
		header  = "[banger] 2026-01-02T03:04:05Z QEMU (kvm) starts\n"
		panicky = "[    1.3] Kernel panic - not syncing: VFS: Unable to mount root fs on \"\"\r\n[    1.4] CPU: 0\r\n"
	)
	ok, failed, killed := exited(t, "exit 0"), exited(t, "exit 1"), exited(t, "kill -9 $$")
	for _, c := range []struct {
		shutdown string
		end      vmm.End
		log      string
		want     string
	}{
		{"guest-shutdown", vmm.End{Console: header, State: ok}, "", "the guest powered off"},
		{"guest-reset", vmm.End{Console: header}, "", "the guest rebooted"},
		{"guest-reset", vmm.End{Console: header + panicky + header, State: ok}, "", "the guest rebooted"},
		{"guest-reset", vmm.End{Console: header + header + panicky, State: ok}, "", `the guest's kernel panicked: VFS: Unable to mount root fs on ""`},
		{"guest-panic", vmm.End{Console: panicky, State: ok}, "", `the guest's kernel panicked: VFS: Unable to mount root fs on ""`},
		{"guest-panic", vmm.End{Console: header}, "", "the guest's kernel panicked"},
		{"host-signal", vmm.End{Console: header, State: ok}, program + ": terminating on signal 15 from pid 1 (init)\n", "QEMU ended: terminating on signal 15 from pid 1 (init)"},
		{"host-signal", vmm.End{Console: header}, "", "QEMU ended: host-signal"},
		{"host-qmp-quit", vmm.End{Console: header}, "", "QEMU ended: host-qmp-quit"},
		{"", vmm.End{Console: header, State: killed, Killed: true}, "", "it was killed on request"},
		{"guest-shutdown", vmm.End{Console: header, State: killed, Killed: true}, "", "the guest powered off"},
		{"", vmm.End{Console: header, State: killed}, "", "QEMU ended: it was killed by signal 9 (killed)"},
		{"", vmm.End{Console: header, State: killed, OOMKills: true}, "", "QEMU ended: it was killed by signal 9 (killed), probably by the kernel for want of memory"},
		{"", vmm.End{Console: header, State: failed}, "a\nb\nout of luck\n", "QEMU ended: it ended with status 1: out of luck"},
		{"", vmm.End{Console: header}, "", ""},
	} {
		e := ending{c.end, c.shutdown, c.log}
		if got := e.describe(); got != c.want {
			t.Errorf("%+v: got %q, want %q", e, got, c.want)
		}
	}
}

func TestExplain(t *testing.T) {
	spec := vmm.Spec{StateDir: "/state/vm"}
	for _, c := range []struct {
		log       string
		code      api.Code
		msg, hint string
	}{
		{"qemu-system-x86_64: -netdev tap,id=net: could not configure /dev/net/tun (tap0): Device or resource busy\n", api.CodeConflict, "interface tap0 is in use", ""},
		{"qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory\n", api.CodeHost, "no memory for this VM: Cannot allocate", "--memory"},
		{"Could not access KVM kernel module: Permission denied\nqemu-system-x86_64: failed to initialize kvm: Permission denied\n", api.CodeHost, "/dev/kvm", "group kvm"},
		{"qemu-system-x86_64: -device virtio-blk-pci,drive=disk: Failed to get \"write\" lock\nIs another process using the image [/x]?\n", api.CodeConflict, "in use by another VMM", ""},
		{"qemu-system-x86_64: -blockdev driver=raw: Could not open '/x/y': No such file or directory\n", api.CodeHost, "/x/y can't be opened: No such file or directory", ""},
		{"qemu-system-x86_64: warning: host doesn't support x\nqemu-system-x86_64: something new\n", api.CodeHost, "ended at once: something new", "/state/vm/vmm.log"},
		{"", api.CodeHost, "ended with status 1", "/state/vm/vmm.log"},
	} {
		err := api.AsError(explain(spec, c.log, exited(t, "exit 1")))
		if err.Code != c.code || !strings.Contains(err.Msg, c.msg) || !strings.Contains(err.Hint, c.hint) {
			t.Errorf("%s\ngot %+v", c.log, err)
		}
	}
}

func TestStartWithoutSandbox(t *testing.T) {
	dir := t.TempDir()
	binary, count := filepath.Join(dir, "qemu"), filepath.Join(dir, "count")
	script := "#!/bin/sh\ncase \"$*\" in\n*-sandbox*) echo x >>" + count + "; echo 'qemu: -sandbox support is not enabled in this QEMU binary' ;;\n*) echo 'out of luck' ;;\nesac\nexit 1\n"
	if err := os.WriteFile(binary, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	driver := New(Config{Binary: binary, Accel: AccelTCG, Log: slog.New(slog.DiscardHandler)})
	spec := vmm.Spec{StateDir: dir, RuntimeDir: dir, Console: filepath.Join(dir, "console"), VCPUs: 1, MemoryMiB: 1}
	for range 2 {
		if _, err := driver.Start(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "out of luck") {
			t.Errorf("got %v", err)
		}
	}
	if tries, _ := os.ReadFile(count); string(tries) != "x\n" {
		t.Errorf("the sandbox was tried %d times", len(tries)/2)
	}
}
