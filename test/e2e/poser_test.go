//go:build e2e

package e2e

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/internal/network"
)

// TestGuestPosesAsAnother: root of one guest claims the addresses of another
// one and of the gateway. Nobody believes it, and it reaches nothing with them.
func TestGuestPosesAsAnother(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		poser := h.buildPoser(t)
		var guests [2]poserGuest
		for i, name := range []string{"poser", "victim"} {
			h.create(t, name)
			h.copyInto(t, name, poser, "/root/poser")
			h.must(t, "vm", "exec", name, "--", "systemd-run", "--quiet", "/root/poser", "serve", ":81", name)
			vm := h.vm(t, name)
			guests[i] = poserGuest{h: h, t: t, name: name, ip: vm.IP, mac: network.MAC(netip.MustParseAddr(vm.IP))}
		}
		a, b := guests[0], guests[1]
		route := strings.Fields(a.in("ip -4 route show default")) // default via GATEWAY dev LINK …
		if len(route) < 5 {
			t.Fatalf("the guest's default route is %q", route)
		}
		gateway, link := route[2], route[4]
		dns := gateway + ":53"

		whoIs := func(g poserGuest) {
			t.Helper()
			argv := append(slices.Clone(h.enterNetwork(t)), poser, "dial", g.ip+":81")
			for deadline := time.Now().Add(time.Minute); ; {
				said, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
				if got := strings.TrimSpace(string(said)); got == g.name {
					return
				} else if time.Now().After(deadline) || err == nil { // a wrong answer is never right
					t.Errorf("at %s is %q, want %s: %v", g.ip, got, g.name, err)
					return
				}
			}
		}
		check := func(what string) {
			t.Helper()
			if link, known := h.neighbours(t, b.ip), b.mac+" PERMANENT"; !strings.HasSuffix(link, known) {
				t.Errorf("%s: the host's neighbour entry is %q, want %s", what, link, known)
			}
			for range 3 {
				whoIs(b)
			}
			if r := h.run(t, "vm", "exec", b.name, "--", "/root/poser", "dial", dns); r.exit != 0 {
				t.Errorf("%s: the other VM doesn't reach DNS: %s", what, r.stderr)
			}
		}
		check("before all")

		macGateway := network.MAC(netip.MustParseAddr(gateway))
		a.in("/root/poser claim " + link + " " + a.mac + " " + b.ip)
		a.in("/root/poser claim " + link + " " + b.mac + " " + b.ip)
		a.in("/root/poser claim " + link + " " + a.mac + " " + gateway)
		a.in("/root/poser claim " + link + " " + macGateway + " " + gateway)
		check("after claims by single frames")
		whoIs(a)

		for _, pose := range [][2]string{{a.mac, b.ip}, {b.mac, a.ip}, {b.mac, b.ip}} {
			a.readdress(link, pose[0], pose[1], gateway)
			a.in("/root/poser claim " + link + " " + pose[0] + " " + pose[1])
			if r := h.run(t, "vm", "exec", a.name, "--", "/root/poser", "dial", dns); r.exit == 0 {
				t.Errorf("as %s, %s a guest reaches DNS", pose[0], pose[1])
			}
			check("while a guest has " + strings.Join(pose[:], ", "))
		}
		a.readdress(link, a.mac, a.ip, gateway)
		a.in("/root/poser dial " + dns)
		whoIs(a)
		check("after all")
	})
}

// poserGuest is a VM with its own addresses.
type poserGuest struct {
	h             *host
	t             *testing.T
	name, ip, mac string
}

// in runs a script in the guest, not by way of its network.
func (g poserGuest) in(script string) string {
	g.t.Helper()
	return g.h.must(g.t, "vm", "exec", g.name, "--", "sh", "-euc", script)
}

// readdress gives the guest's interface other addresses.
func (g poserGuest) readdress(link, mac, ip, gateway string) {
	g.t.Helper()
	g.in("set -- " + strings.Join([]string{link, mac, ip, gateway}, " ") + `
		ip link set $1 down; ip addr flush dev $1; ip link set $1 address $2
		ip addr add $3/24 dev $1; ip link set $1 up; ip route replace default via $4`)
}

// buildPoser builds the program for guests, where the mode's user finds it.
func (h *host) buildPoser(t *testing.T) string {
	t.Helper()
	path := filepath.Join(h.scratch, "poser")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", path, "./poser")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build poser: %v: %s", err, out)
	}
	t.Cleanup(func() { os.Remove(path) })
	return path
}

// copyInto copies a program into a VM.
func (h *host) copyInto(t *testing.T, vm, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if r := h.runWithInput(t, string(data), "vm", "exec", vm, "--", "sh", "-euc", "cat > "+to+"; chmod 755 "+to); r.exit != 0 {
		t.Fatalf("copy %s into %s: %s", from, vm, r.stderr)
	}
}

// neighbours is what the host's namespace knows of an address, as ip-neigh(8)
// says it.
func (h *host) neighbours(t *testing.T, ip string) string {
	t.Helper()
	argv := append(slices.Clone(h.enterNetwork(t)), "ip", "neigh", "show", ip)
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}
