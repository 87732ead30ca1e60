//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"banger/internal/api"
	"banger/internal/procid"
)

// background is a banger command that goes on beside the test.
type background struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer // to be read after wait
}

func (h *host) background(t *testing.T, args ...string) *background {
	t.Helper()
	b := &background{cmd: h.command(t.Context(), args...)}
	b.cmd.Stdout, b.cmd.Stderr = &b.stdout, &b.stderr
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return b
}

// wait returns how the command has ended.
func (b *background) wait(t *testing.T) result {
	t.Helper()
	var exit *exec.ExitError
	if err := b.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{b.stdout.String(), b.stderr.String(), b.cmd.ProcessState.ExitCode()}
}

func (h *host) killDaemon(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(h.daemonPID(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// wantState waits for a VM's state, which an emulated VMM may take a moment to
// tell.
func (h *host) wantState(t *testing.T, name string, want api.State) {
	t.Helper()
	h.eventually(t, func() bool { return h.vm(t, name).State == want })
}

// TestFrozenVMM: bangerd starts although a VMM doesn't answer, says so, works
// with the others, and has the VM back when it answers again.
func TestFrozenVMM(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		h.create(t, "frozen")
		h.create(t, "other")
		vm := h.vm(t, "frozen")
		freeze := func() {
			if err := syscall.Kill(vm.PID, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			h.killDaemon(t)
			if got := h.vm(t, "frozen"); got.State != api.StateUnknown || got.Reason == "" || got.IP != vm.IP || got.PID != vm.PID {
				t.Errorf("%+v", got)
			}
			if r := h.run(t, "vm", "list"); r.exit != 0 || !strings.Contains(r.stdout, "unknown") || !strings.Contains(r.stderr, "VM frozen: ") {
				t.Errorf("list: exit %d\n%s%s", r.exit, r.stdout, r.stderr)
			}
		}
		freeze()
		if r := h.run(t, "vm", "exec", "frozen", "--", "true"); r.exit != 5 || !strings.Contains(r.stderr, "can't reach its VMM") {
			t.Errorf("exec: exit %d\n%s", r.exit, r.stderr)
		}
		h.wantState(t, "other", api.StateRunning)
		h.must(t, "vm", "exec", "other", "--", "getent", "hosts", "frozen.banger")
		if err := syscall.Kill(vm.PID, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		h.wantState(t, "frozen", api.StateRunning)
		if got := h.must(t, "vm", "exec", "frozen", "--", "getent", "hosts", "other.banger"); !strings.Contains(got, h.vm(t, "other").IP) {
			t.Errorf("its network: %q", got)
		}
		freeze()
		h.must(t, "vm", "delete", "--force", "frozen")
		if _, err := procid.StartTime(vm.PID); !errors.Is(err, procid.ErrGone) {
			t.Errorf("its VMM: %v", err)
		}
		h.must(t, "vm", "exec", "other", "--", "getent", "hosts", "other.banger")
	})
}

// TestTemporaryVMOfAKilledDaemon: --rm is kept, by the command or by the next
// bangerd.
func TestTemporaryVMOfAKilledDaemon(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		for _, client := range []string{"alive", "killed"} {
			t.Run("client "+client, func(t *testing.T) {
				run := h.command(t.Context(), "vm", "run", "--rm", "--name", "brief", "--", "sh", "-c", "echo ready; exec sleep 100000")
				var stderr bytes.Buffer
				run.Stderr = &stderr
				stdout, err := run.StdoutPipe()
				if err == nil {
					err = run.Start()
				}
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
					t.Fatalf("%v\n%s", err, stderr.String())
				}
				daemon := h.daemonPID(t)
				if client == "killed" {
					if err := run.Process.Kill(); err != nil {
						t.Fatal(err)
					}
				}
				if err := syscall.Kill(daemon, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				_ = run.Wait() // its exit status is looked at next
				if got := run.ProcessState.ExitCode(); client == "alive" && got != 125 {
					t.Errorf("exit %d\n%s", got, stderr.String())
				}
				h.eventually(t, func() bool { return h.run(t, "vm", "show", "brief").exit == 4 }) // there is none
			})
		}
	})
}

// TestKilledDuringStop: a VM that goes down is shown as such by the next bangerd
// and lets nobody in, and the commands in it say why they end.
func TestKilledDuringStop(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "slow")
		h.must(t, "vm", "exec", "slow", "--", "systemd-run", "-q", "-p", "ExecStop=sleep 20", "sleep", "100000")
		command := h.background(t, "vm", "exec", "slow", "--", "sleep", "100001")
		h.eventually(t, func() bool {
			return h.run(t, "vm", "exec", "slow", "--", "pgrep", "-fx", "sleep 100001").exit == 0
		})
		stop := h.background(t, "vm", "stop", "slow")
		h.wantState(t, "slow", api.StateStopping)
		if r := h.run(t, "vm", "exec", "slow", "--", "true"); r.exit != 5 || !strings.Contains(r.stderr, "is stopping") {
			t.Errorf("exec: exit %d\n%s", r.exit, r.stderr)
		}
		if r := command.wait(t); !strings.Contains(r.stderr, "VM slow was stopped") {
			t.Errorf("the command: exit %d\n%s", r.exit, r.stderr)
		}
		h.killDaemon(t)
		stop.wait(t)
		if vm := h.vm(t, "slow"); vm.State == api.StateRunning || vm.State == api.StateStarting {
			t.Errorf("after bangerd's death it is %s", vm.State)
		}
		h.wantState(t, "slow", api.StateStopped)
		if vm := h.vm(t, "slow"); vm.Reason != "" {
			t.Errorf("reason %q", vm.Reason)
		}
	})
}
