//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
)

// secondHome returns a second BANGER_HOME of root's in the same network, with
// the same images.
func (h *host) secondHome(t *testing.T) *host {
	t.Helper()
	second := &host{name: "second", home: h.home + "-2", bin: h.bin, scratch: h.scratch, netns: h.netns}
	t.Cleanup(func() {
		if err := second.stopDaemon(); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(second.home); err != nil {
			t.Error(err)
		}
	})
	if err := second.configure(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"share", "cache"} {
		if out, err := exec.Command("cp", "-rl", filepath.Join(h.home, dir), second.home).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return second
}

// aliases lists banger's links in the network with what says whose they are.
func (h *host) aliases(t *testing.T, of string) []string {
	t.Helper()
	argv := append(h.enterNetwork(t), "ip", "-o", "link", "show")
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		_, alias, ok := strings.Cut(strings.TrimSpace(line), "alias ")
		if fields := strings.Fields(line); ok && strings.Contains(alias, of) {
			found = append(found, fields[1]+" "+alias)
		}
	}
	return found
}

// TestTwoHomesOfRoot: two BANGER_HOMEs have VMs on one host at the same time, and
// whatever the bangerd of one does, the VMs of the other keep their network.
func TestTwoHomesOfRoot(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		if h.uid != 0 {
			t.Skip("SKIPPED: plain users' bangerds have a network of their own anyway")
		}
		second := h.secondHome(t)
		h.create(t, "one")
		before := h.aliases(t, "banger ")
		if len(before) != 2 {
			t.Fatalf("links: %v", before)
		}
		_, id, _ := strings.Cut(before[0], "banger ")
		unchanged := func(after string) {
			t.Helper()
			if diff := cmp.Diff(before, h.aliases(t, id)); diff != "" {
				t.Fatalf("%s changed the other's links:\n%s", after, diff)
			}
			if got := h.must(t, "vm", "exec", "one", "--", "getent", "hosts", "one.banger"); !strings.Contains(got, h.vm(t, "one").IP) {
				t.Errorf("after %s the network of the first: %q", after, got)
			}
		}
		second.must(t, "image", "list")
		unchanged("image list")
		second.create(t, "two")
		unchanged("vm create")
		two, one := second.vm(t, "two"), h.vm(t, "one")
		if !strings.HasPrefix(one.IP, "172.16.0.") || !strings.HasPrefix(two.IP, "172.16.1.") {
			t.Errorf("their addresses are %s and %s", one.IP, two.IP)
		}
		works := func(after string) {
			t.Helper()
			if got := second.must(t, "vm", "exec", "two", "--", "getent", "hosts", "two.banger"); !strings.Contains(got, two.IP) {
				t.Errorf("after %s the network of the second: %q", after, got)
			}
		}
		works("vm create")
		if r := second.run(t, "vm", "exec", "two", "--", "ping", "-c", "1", "-W", "3", one.IP); r.exit == 0 {
			t.Error("VMs of two instances reach each other")
		}
		for _, kill := range []*host{h, second} {
			kill.killDaemon(t)
			kill.wantState(t, map[*host]string{h: "one", second: "two"}[kill], api.StateRunning)
			unchanged("the end of a bangerd")
			works("the end of a bangerd")
		}
		second.must(t, "vm", "stop", "--force", "two")
		unchanged("vm stop")
		h.must(t, "vm", "stop", "--force", "one")
		second.must(t, "vm", "start", "two")
		if got := second.vm(t, "two").IP; got != two.IP {
			t.Errorf("its address is %s and was %s", got, two.IP)
		}
	})
}
