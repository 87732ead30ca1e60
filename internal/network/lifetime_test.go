package network

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

// The ids of the VMs that have tapA and tapB.
const idA, idB = "00000000000a", "00000000000b"

func portOf(id, addr string) Port { return Port{ID: id, Addr: netip.MustParseAddr(addr)} }

func kept(ports ...Port) func() ([]Port, error) {
	return func() ([]Port, error) { return ports, nil }
}

// TestLifetime: the network is there while a VM is.
func TestLifetime(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needTun(t)
	ctx, n := t.Context(), testNetwork()
	before := linkNames(t)
	gone := func(what string) {
		t.Helper()
		if got := linkNames(t); !slices.Equal(got, before) {
			t.Errorf("%s: interfaces %v, want %v", what, got, before)
		}
		if got := tables(t); len(got) > 0 {
			t.Errorf("%s: rules %v", what, got)
		}
	}
	must(t, n.Keep(ctx, kept()))
	gone("without a VM")

	a, b := portOf(idA, addrA), portOf(idB, addrB)
	nic, err := n.Attach(ctx, a)
	must(t, err)
	if nic.Addr.String() != addrA+"/24" || nic.Gateway != n.config().Gateway || nic.MTU == 0 {
		t.Errorf("the VM is told %+v", nic)
	}
	if _, err := n.Attach(ctx, b); err != nil {
		t.Fatal(err)
	}
	must(t, n.Detach(ctx, idA, a.Addr))
	must(t, n.Detach(ctx, idA, a.Addr)) // twice is fine
	if taps, err := n.taps(ctx); err != nil || !slices.Equal(taps, []string{tapB}) {
		t.Errorf("taps %v, %v", taps, err)
	}
	must(t, n.Detach(ctx, idB, b.Addr))
	gone("after the last VM")

	if _, err := n.Attach(ctx, portOf(idA, "10.9.9.9")); !errors.Is(err, ErrElsewhere) {
		t.Errorf("an address that the network hasn't: %v", err)
	}
	must(t, n.Detach(ctx, idA, a.Addr))
	gone("after a VM that found no place")
}

// TestKeep: a bangerd that starts keeps the ports of VMs that run, and takes
// nothing down before it knows which they are.
func TestKeep(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needTun(t)
	ctx, n := t.Context(), testNetwork()
	a, b := portOf(idA, addrA), portOf(idB, addrB)
	for _, p := range []Port{a, b} {
		if _, err := n.Attach(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	n.Close()

	next := testNetwork()
	if err := next.Keep(ctx, func() ([]Port, error) { return nil, errors.New("no records") }); err == nil {
		t.Error("the error is lost")
	}
	must(t, next.Detach(ctx, "00000000000c", netip.MustParseAddr("172.16.0.7")))
	if taps, err := next.taps(ctx); err != nil || len(taps) != 2 {
		t.Errorf("taps %v, %v", taps, err)
	}
	must(t, next.Keep(ctx, kept(a)))
	if taps, err := next.taps(ctx); err != nil || !slices.Equal(taps, []string{tapA}) {
		t.Errorf("taps %v, %v", taps, err)
	}
	must(t, next.Detach(ctx, idA, a.Addr))
	if _, err := netlink.LinkByName(next.config().Bridge); !isNotFound(err) {
		t.Errorf("the bridge is left: %v", err)
	}
}

// TestMendPort: what is mended is the port of a VM that has one.
func TestMendPort(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needTun(t)
	ctx, n := t.Context(), testNetwork()
	must(t, n.Keep(ctx, kept()))
	a := portOf(idA, addrA)
	if _, err := n.Attach(ctx, a); err != nil {
		t.Fatal(err)
	}
	vmm := openTap(t, tapA)
	reattached := 0
	mend := func() error { return n.Mend(ctx, idA, func() error { reattached++; return nil }) }
	must(t, mend())
	if reattached > 0 {
		t.Error("a VMM was connected anew for nothing")
	}
	for _, link := range []string{tapA, n.config().Bridge} {
		l, err := netlink.LinkByName(link)
		must(t, err)
		must(t, netlink.LinkDel(l))
	}
	must(t, mend())
	if wrong, err := n.bridgeDamage(); err != nil || wrong != "" {
		t.Errorf("the bridge: %q, %v", wrong, err)
	}
	if wrong, err := n.tapDamage(tapA, a.Addr); err != nil || wrong != "" {
		t.Errorf("the tap: %q, %v", wrong, err)
	}
	if reattached != 1 {
		t.Errorf("the VMM was connected %d times", reattached)
	}
	must(t, vmm.Close())
	must(t, n.Detach(ctx, idA, a.Addr))
	must(t, mend())
	if taps, err := n.taps(ctx); err != nil || len(taps) > 0 || reattached != 1 {
		t.Errorf("a VM that has gone has its port again: %v, %v", taps, err)
	}
}
