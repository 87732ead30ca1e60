//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/network"
)

// TestLostTap: whatever others do to the network of a VM that runs, with bangerd
// running or not, is put right; and where that can't be the VM is shown as what
// it is.
func TestLostTap(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		h.create(t, "web")
		vm := h.vm(t, "web")
		tap := network.TapName(vm.ID)
		harms := []string{
			"ip link del " + tap,
			"ip link set " + tap + " nomaster; nft delete table " + strings.Join(tableOf(network.RenderPort(tap, netip.MustParseAddr(vm.IP))), " "),
			"ip link del $(ip -o link show " + tap + ` | sed 's/.* master \([^ ]*\) .*/\1/')`,
		}
		for _, harm := range harms {
			for _, running := range []bool{true, false} {
				t.Logf("%s, bangerd runs: %v", harm, running)
				if !running {
					h.killDaemon(t)
				}
				h.inNetwork(t, harm)
				h.wantNetwork(t, "web")
			}
		}

		// Where the tap has gone to another namespace, nobody can bring it back.
		away := exec.CommandContext(t.Context(), "unshare", "--net", "sleep", "100000")
		if enter := h.enterNetwork(t); enter != nil {
			away.Args = append(slices.Clone(enter), away.Args...)
			away.Path, _ = exec.LookPath(enter[0])
		}
		if err := away.Start(); err != nil {
			t.Fatal(err)
		}
		ended := false
		end := func() {
			if !ended {
				ended = true
				_, _ = away.Process.Kill(), away.Wait()
			}
		}
		defer end()
		h.eventually(t, func() bool { // it is in its namespace
			name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", away.Process.Pid))
			return err == nil && string(name) == "sleep\n"
		})
		h.inNetwork(t, fmt.Sprintf("ip link set %s netns %d", tap, away.Process.Pid))
		h.eventually(t, func() bool { return h.vm(t, "web").Reason != "" })
		list := h.run(t, "vm", "list")
		if got := h.vm(t, "web"); got.State != api.StateRunning || !strings.Contains(list.stderr, "VM web: its network is lost") ||
			!strings.Contains(got.Reason, "banger vm restart web") {
			t.Errorf("%s (%s)\n%s%s", got.State, got.Reason, list.stdout, list.stderr)
		}
		if got := h.must(t, "vm", "exec", "web", "--", "echo", "alive"); got != "alive\n" {
			t.Errorf("the guest says %q", got)
		}
		end() // and the tap with its namespace
		h.wantNetwork(t, "web")
	})
}

// tableOf is a table's family and name.
func tableOf(rules network.Ruleset) []string {
	fields := strings.Fields(rules.String()) // table FAMILY NAME { …
	return fields[1:3]
}

// tryInNetwork runs a script in the namespace of the VMs.
func (h *host) tryInNetwork(t *testing.T, script string) error {
	t.Helper()
	argv := append(slices.Clone(h.enterNetwork(t)), "bash", "-euc", script)
	if out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return nil
}

func (h *host) inNetwork(t *testing.T, script string) {
	t.Helper()
	if err := h.tryInNetwork(t, script); err != nil {
		t.Fatal(err)
	}
}

// wantNetwork waits until a VM has its network again, and checks that frames of
// all sizes get through and that its port has rules.
func (h *host) wantNetwork(t *testing.T, name string) {
	t.Helper()
	h.eventually(t, func() bool {
		return h.vm(t, name).Reason == "" && h.run(t, "vm", "exec", name, "--", "getent", "hosts", name+".banger").exit == 0
	})
	vm := h.vm(t, name)
	const size = 4 << 20
	count := h.background(t, "vm", "exec", name, "--", "perl", "-MIO::Socket::INET", "-e", `
		my $l = IO::Socket::INET->new(LocalPort => 81, Listen => 1, ReuseAddr => 1) or die $@;
		my $c = $l->accept; my ($n, $b) = (0, ""); while (my $r = sysread($c, $b, 65536)) { $n += $r } print $n`)
	h.eventually(t, func() bool {
		return h.tryInNetwork(t, fmt.Sprintf("head -c %d /dev/zero >/dev/tcp/%s/81", size, vm.IP)) == nil
	})
	if r := count.wait(t); r.stdout != fmt.Sprint(size) {
		t.Errorf("%s bytes of %d arrived: %s", r.stdout, size, r.stderr)
	}
	rules := network.RenderPort(network.TapName(vm.ID), netip.MustParseAddr(vm.IP))
	h.inNetwork(t, "nft list chain "+strings.Join(append(tableOf(rules), rules.Chains[0].Name), " ")+" | grep -q drop")
}
