package network

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/guard"
)

// poolOf is a network that makes so many taps ahead.
func poolOf(size int) *Network {
	n := testNetwork()
	n.wanted.TapPool = size
	return n
}

// spares returns the names of the taps that are there ahead.
func spares(t testing.TB, n *Network) []string {
	t.Helper()
	n.pool.tasks.Wait()
	links, err := complete(netlink.LinkList)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		if l.Attrs().Alias == n.spareAlias() {
			names = append(names, l.Attrs().Name)
			if l.Attrs().RawFlags&unix.IFF_UP != 0 {
				t.Errorf("tap %s is up, for nobody", l.Attrs().Name)
			}
		}
	}
	return names
}

func TestTapPool(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needTun(t)
	ctx, n := t.Context(), poolOf(2)
	before := linkNames(t)
	must(t, n.bringUp(ctx))
	if got := spares(t, n); len(got) > 0 {
		t.Errorf("%v are there before any VM's", got)
	}
	attach(t, n, tapA, addrA)
	ahead := spares(t, n)
	if len(ahead) != 2 {
		t.Fatalf("made ahead: %v, want 2", ahead)
	}
	if taps, err := n.taps(ctx); err != nil || !slices.Equal(taps, []string{tapA}) {
		t.Errorf("taps of VMs: %v, %v", taps, err)
	}

	// A bangerd that starts finds them, and the next VM gets one.
	index := make(map[int]bool)
	for _, name := range ahead {
		link, err := netlink.LinkByName(name)
		must(t, err)
		index[link.Attrs().Index] = true
	}
	n.Close()
	n = poolOf(2)
	must(t, n.bringUp(ctx))
	attach(t, n, tapB, addrB)
	link, err := netlink.LinkByName(tapB)
	must(t, err)
	if !index[link.Attrs().Index] || link.Attrs().Alias != n.alias() || link.Attrs().RawFlags&unix.IFF_UP == 0 {
		t.Errorf("the VM has another tap, or one that isn't ready: %+v", link.Attrs())
	}
	if got := spares(t, n); len(got) != 2 {
		t.Errorf("made ahead: %v, want 2 again", got)
	}
	checkKernelState(t)

	must(t, n.detachTap(ctx, tapA))
	must(t, n.detachTap(ctx, tapB))
	must(t, n.takeDown(ctx))
	if got := linkNames(t); !slices.Equal(got, before) {
		t.Errorf("left: %v", got)
	}
	n.fillPool()
	if got := spares(t, n); len(got) > 0 {
		t.Errorf("made after the end: %v", got)
	}
}

// A spare tap that somebody has removed is no obstacle.
func TestLostSpare(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needTun(t)
	n := poolOf(1)
	must(t, n.bringUp(t.Context()))
	attach(t, n, tapA, addrA)
	for _, name := range spares(t, n) {
		link, err := netlink.LinkByName(name)
		must(t, err)
		must(t, netlink.LinkDel(link))
	}
	attach(t, n, tapB, addrB)
	checkKernelState(t)
	if got := spares(t, n); len(got) != 1 {
		t.Errorf("made ahead: %v, want 1", got)
	}
}

// TestSpareIsMarkedBeforeItIsNamed: bangerd may be killed at any time, and a tap
// with a VM's name that isn't marked as a VM's would be taken for a stranger's.
func TestSpareIsMarkedBeforeItIsNamed(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needTun(t)
	n := poolOf(1)
	must(t, n.bringUp(t.Context()))
	attach(t, n, tapA, addrA)
	if got := spares(t, n); len(got) != 1 {
		t.Fatalf("made ahead: %v, want 1", got)
	}
	changes, done := make(chan netlink.LinkUpdate, 1000), make(chan struct{})
	defer close(done)
	must(t, netlink.LinkSubscribe(changes, done))
	attach(t, n, tapB, addrB)
	for deadline := time.After(30 * time.Second); ; {
		select {
		case change := <-changes:
			attrs := change.Attrs()
			switch {
			case attrs.Name != tapB:
			case attrs.Alias != n.alias():
				t.Fatalf("a tap of the VM's name is marked %q", attrs.Alias)
			case attrs.RawFlags&unix.IFF_UP != 0:
				return
			}
		case <-deadline:
			t.Fatal("the tap didn't come up")
		}
	}
}

// TestPoolIsFilledAfterAPanic: one bug doesn't end the making of taps for good.
func TestPoolIsFilledAfterAPanic(t *testing.T) {
	n := poolOf(1)
	n.pool.filling = true
	n.cfg.Store(nil) // which makes it panic
	err := guard.Run("make taps ahead", func() error {
		n.addSpare()
		return nil
	})
	if err == nil || n.pool.filling {
		t.Errorf("%v; the pool is taken to be filled: %v", err, n.pool.filling)
	}
}

// BenchmarkAttachTap is what a pool saves of a VM's start.
func BenchmarkAttachTap(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("SKIPPED: it needs a network namespace, and so root")
	}
	for _, size := range []int{0, 4} {
		b.Run(fmt.Sprintf("pool=%d", size), func(b *testing.B) {
			runtime.LockOSThread() // it ends with the benchmark, in its namespace
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				b.Fatal(err)
			}
			n := poolOf(0) // no goroutines: they would be elsewhere
			n.wanted.DNS = nil
			if err := n.bringUp(b.Context()); err != nil {
				b.Fatal(err)
			}
			addr := netip.MustParseAddr(addrA)
			for b.Loop() {
				b.StopTimer()
				if size > 0 {
					name, err := n.makeSpare()
					if err != nil {
						b.Fatal(err)
					}
					n.pool.names = append(n.pool.names, name)
				}
				b.StartTimer()
				if err := n.attachTap(b.Context(), tapA, addr); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := n.detachTap(b.Context(), tapA); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.StopTimer()
			if left := strings.Join(n.pool.names, " "); left != "" {
				b.Errorf("not used: %s", left)
			}
			if err := n.takeDown(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
