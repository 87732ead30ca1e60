package firecracker

import (
	"os"
	"os/exec"
	"testing"

	"banger/internal/vmm"
)

// exited returns the state of a shell that ran a script.
func exited(t *testing.T, script string) *os.ProcessState {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	_ = cmd.Run() // the state tells it
	return cmd.ProcessState
}

func TestDescribeEnding(t *testing.T) {
	const panicked = "Kernel panic - not syncing: VFS: Unable to mount root fs\r\nCall Trace:\r\n"
	const log = `2026-01-01T00:00:00.1 [web-1:main:INFO] Running Firecracker v1.16.1
2026-01-01T00:00:00.2 [web-1:main:ERROR] Failed to map guest memory
2026-01-01T00:00:00.3 [web-1:fc_vcpu 0:WARN] vcpu: IO write @ 0xcf8:0x4 failed: bus_error: MissingAddressRange
2026-01-01T00:00:00.4 [web-1:main:ERROR] Firecracker exiting with error. exit_code=1
`
	ok, failed, killed := exited(t, "exit 0"), exited(t, "exit 1"), exited(t, "kill -9 $$")
	for name, test := range map[string]struct {
		ending ending
		want   string
	}{
		"rebooted":        {ending{End: vmm.End{State: ok, Console: "reboot: Restarting system"}}, "the guest rebooted"},
		"panicked":        {ending{End: vmm.End{State: ok, Console: panicked}}, "the guest's kernel panicked: VFS: Unable to mount root fs"},
		"as asked":        {ending{End: vmm.End{State: ok}, powerOff: true}, "the guest powered off when asked to"},
		"panic when off":  {ending{End: vmm.End{State: ok, Console: panicked}, powerOff: true}, "the guest's kernel panicked: VFS: Unable to mount root fs"},
		"halted":          {ending{End: vmm.End{State: killed}, halted: true}, "the guest powered off"},
		"killed by us":    {ending{End: vmm.End{State: killed, Killed: true}}, "it was killed on request"},
		"killed":          {ending{End: vmm.End{State: killed}}, "Firecracker was killed by signal 9 (killed)"},
		"out of memory":   {ending{End: vmm.End{State: killed, OOMKills: true}}, "Firecracker was killed by signal 9 (killed), probably by the kernel for want of memory"},
		"failed":          {ending{End: vmm.End{State: failed}, log: log}, "Firecracker failed with status 1: Failed to map guest memory"},
		"Rust panic":      {ending{End: vmm.End{State: failed, Console: "thread 'main' (7) panicked at src/x.rs:1\n"}}, "Firecracker failed with status 1: thread 'main' (7) panicked at src/x.rs:1"},
		"seccomp":         {ending{End: vmm.End{State: exited(t, "exit 148")}}, "Firecracker failed with status 148: it made a system call that its filter forbids"},
		"adopted, failed": {ending{log: log}, "Firecracker failed with status 1: Failed to map guest memory"},
		"adopted, reset":  {ending{log: "x [a:main:INFO] Firecracker exiting successfully. exit_code=0\n"}, "the guest rebooted"},
		"adopted, killed": {ending{log: "x [a:main:INFO] Running Firecracker\n"}, ""},
	} {
		if got := test.ending.describe(); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
