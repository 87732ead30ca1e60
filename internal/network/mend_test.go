package network

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// harm is what others can do to the network of running VMs.
type harm struct {
	name   string
	do     func(t *testing.T)
	lost   bool // the VMM has to be connected anew
	silent bool // Watch doesn't tell of it
}

func harms() []harm {
	link := func(t *testing.T, name string) netlink.Link {
		t.Helper()
		l, err := netlink.LinkByName(name)
		must(t, err)
		return l
	}
	change := func(rules Ruleset, change func(*nftables.Conn, *nftables.Table)) func(t *testing.T) {
		return func(t *testing.T) {
			t.Helper()
			conn, err := nftables.New()
			must(t, err)
			change(conn, rules.table())
			must(t, conn.Flush())
		}
	}
	port, all := RenderPort(tapA, netip.MustParseAddr(addrA)), Render(testConfig())
	return []harm{
		{"tap removed", func(t *testing.T) { must(t, netlink.LinkDel(link(t, tapA))) }, true, false},
		{"tap off the bridge", func(t *testing.T) { must(t, netlink.LinkSetNoMaster(link(t, tapA))) }, false, false},
		{"tap down", func(t *testing.T) { must(t, netlink.LinkSetDown(link(t, tapA))) }, false, false},
		{"tap not isolated", func(t *testing.T) { must(t, netlink.LinkSetIsolated(link(t, tapA), false)) }, false, false},
		{"port learns", func(t *testing.T) { must(t, netlink.LinkSetLearning(link(t, tapA), true)) }, false, false},
		{"neighbour forgotten", func(t *testing.T) {
			must(t, netlink.NeighDel(portEntries(link(t, "banger0"), link(t, tapA), netip.MustParseAddr(addrA))[1]))
		}, false, true},
		{"port's rules removed", change(port, (*nftables.Conn).DelTable), false, false},
		{"port's rules flushed", change(port, (*nftables.Conn).FlushTable), false, false},
		{"a rule added", change(port, func(c *nftables.Conn, table *nftables.Table) {
			chain := &nftables.Chain{Name: port.Chains[0].Name, Table: table}
			c.InsertRule(&nftables.Rule{Table: table, Chain: chain, Exprs: Rule{accept()}.exprs()})
		}), false, false},
		{"all rules removed", func(t *testing.T) {
			t.Helper()
			conn, err := nftables.New()
			must(t, err)
			conn.FlushRuleset()
			must(t, conn.Flush())
		}, false, false},
		{"the bridge's rules flushed", change(all, (*nftables.Conn).FlushTable), false, false},
		{"bridge removed", func(t *testing.T) { must(t, netlink.LinkDel(link(t, "banger0"))) }, false, false},
		{"bridge down", func(t *testing.T) { must(t, netlink.LinkSetDown(link(t, "banger0"))) }, false, false},
		{"bridge's address removed", func(t *testing.T) {
			addrs, err := netlink.AddrList(link(t, "banger0"), netlink.FAMILY_V4)
			must(t, err)
			must(t, netlink.AddrDel(link(t, "banger0"), &addrs[0]))
		}, false, false},
	}
}

// TestMend does harm to the network of a VM that runs. It is noticed, and put
// right; and where there is none nothing is touched.
func TestMend(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needTun(t)
	var log bytes.Buffer
	n := New(testConfig(), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})))
	must(t, n.bringUp(t.Context()))
	attach(t, n, tapA, addrA)
	attach(t, n, tapB, addrB)
	vmm := openTap(t, tapA)
	changes, err := n.Watch(t.Context())
	must(t, err)
	mend := func() bool {
		t.Helper()
		must(t, n.mendBridge(t.Context()))
		if _, err := n.mendTap(t.Context(), tapB, netip.MustParseAddr(addrB)); err != nil {
			t.Fatal(err)
		}
		open, err := n.mendTap(t.Context(), tapA, netip.MustParseAddr(addrA))
		must(t, err)
		return open
	}
	for _, h := range harms() {
		quiet(changes)
		h.do(t)
		if !h.silent {
			select {
			case <-changes:
			case <-time.After(20 * time.Second):
				t.Errorf("%s: it isn't noticed", h.name)
			}
		}
		if open := mend(); open == h.lost {
			t.Errorf("%s: it is open: %v", h.name, open)
		}
		if log.Len() == 0 {
			t.Errorf("%s: nothing is logged", h.name)
		}
		checkKernelState(t)
		if h.lost {
			must(t, vmm.Close())
			vmm = openTap(t, tapA)
		}
		log.Reset()
		quiet(changes)
		if !mend() || log.Len() > 0 || quiet(changes) {
			t.Errorf("%s: what is right was touched: %s", h.name, log.String())
		}
	}
	must(t, vmm.Close())

	// The next bangerd doesn't know whether the rules are right.
	next := New(testConfig(), slog.New(slog.NewTextHandler(&log, nil)))
	harms()[7].do(t)
	must(t, next.mendBridge(t.Context()))
	if _, err := next.mendTap(t.Context(), tapA, netip.MustParseAddr(addrA)); err != nil {
		t.Error(err)
	}
	if n.stateOf(RenderPort(tapA, netip.MustParseAddr(addrA))) != tableIntact {
		t.Error("the rules aren't what they were")
	}
	checkKernelState(t)

	bridge, err := netlink.LinkByName("banger0")
	must(t, err)
	must(t, netlink.LinkDel(bridge))
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "banger0"}}))
	if err := next.mendBridge(t.Context()); err == nil || !strings.Contains(err.Error(), "banger did not make it") {
		t.Errorf("with a stranger's bridge: %v", err)
	}
}

// quiet waits until there are no changes any more, and tells whether there were
// some.
func quiet(changes <-chan struct{}) bool {
	seen := false
	for {
		select {
		case <-changes:
			seen = true
		case <-time.After(50 * time.Millisecond):
			return seen
		}
	}
}
