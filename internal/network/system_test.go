package network

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"banger/internal/api"
)

const (
	tapA, addrA = "bgr00000000000a", "172.16.0.5"
	tapB, addrB = "bgr00000000000b", "172.16.0.6"
)

func attach(t *testing.T, n *Network, tap, addr string) {
	t.Helper()
	must(t, n.attachTap(t.Context(), tap, netip.MustParseAddr(addr)))
}

func testNetwork() *Network { return New(testConfig(), slog.New(slog.DiscardHandler)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func linkNames(t *testing.T) []string {
	t.Helper()
	links, err := complete(netlink.LinkList)
	must(t, err)
	var names []string
	for _, l := range links {
		names = append(names, l.Attrs().Name)
	}
	return names
}

func tables(t *testing.T) []string {
	t.Helper()
	conn, err := nftables.New()
	must(t, err)
	list, err := conn.ListTables()
	must(t, err)
	var names []string
	for _, table := range list {
		names = append(names, table.Name)
	}
	return names
}

func TestUpAndDown(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needTun(t)
	ctx, n := t.Context(), testNetwork()
	before := linkNames(t)
	must(t, n.takeDown(ctx)) // nothing there is fine
	for range 2 {
		must(t, n.bringUp(ctx))
		attach(t, n, tapA, addrA)
		attach(t, n, tapB, addrB)
	}
	checkKernelState(t)

	taps, err := n.taps(ctx)
	must(t, err)
	slices.Sort(taps)
	if !slices.Equal(taps, []string{tapA, tapB}) {
		t.Errorf("taps: %v", taps)
	}
	open := openTap(t, tapB) // detaching must not need the VMM's consent
	defer open.Close()
	for range 2 {
		must(t, n.detachTap(ctx, tapB))
	}
	if slices.Contains(linkNames(t), tapB) {
		t.Errorf("%s is still there", tapB)
	}
	if got := neighbours(t); !maps.Equal(got, map[string]string{addrA: MAC(netip.MustParseAddr(addrA))}) {
		t.Errorf("the host knows %v", got)
	}
	tapALink, err := netlink.LinkByName(tapA)
	must(t, err)
	must(t, netlink.LinkDel(tapALink)) // by somebody else; its rules must go nevertheless
	must(t, n.detachTap(ctx, tapA))
	if got := tables(t); !slices.Equal(got, []string{"banger_banger0"}) {
		t.Errorf("without taps there are tables %v", got)
	}
	attach(t, n, tapA, addrA)

	must(t, n.takeDown(ctx))
	must(t, n.takeDown(ctx))
	if diff := cmp.Diff(before, linkNames(t)); diff != "" {
		t.Errorf("Down left links (-before +after):\n%s", diff)
	}
	if left := tables(t); len(left) > 0 {
		t.Errorf("Down left tables %v", left)
	}
}

// neighbours are the permanent ones on the bridge, which is all that it may know.
func neighbours(t *testing.T) map[string]string {
	t.Helper()
	bridge, err := netlink.LinkByName("banger0")
	must(t, err)
	list, err := netlink.NeighList(bridge.Attrs().Index, netlink.FAMILY_V4)
	must(t, err)
	known := map[string]string{}
	for _, n := range list {
		if n.State == netlink.NUD_PERMANENT {
			known[n.IP.String()] = n.HardwareAddr.String()
		}
	}
	return known
}

func checkKernelState(t *testing.T) {
	t.Helper()
	bridge, err := netlink.LinkByName("banger0")
	must(t, err)
	attrs := bridge.Attrs()
	if attrs.Alias != "banger "+testConfig().Owner || attrs.Group != 0 || attrs.Flags&net.FlagUp == 0 || attrs.HardwareAddr.String() != MAC(testConfig().Gateway) {
		t.Errorf("bridge: alias %q, flags %s, address %s", attrs.Alias, attrs.Flags, attrs.HardwareAddr)
	}
	addrs, err := netlink.AddrList(bridge, netlink.FAMILY_ALL)
	must(t, err)
	if len(addrs) != 1 || addrs[0].IPNet.String() != "172.16.0.1/24" {
		t.Errorf("bridge has addresses %v", addrs)
	}
	for _, name := range []string{tapA, tapB} {
		link, err := netlink.LinkByName(name)
		must(t, err)
		info, err := netlink.LinkGetProtinfo(link)
		must(t, err)
		a := link.Attrs()
		if !isTap(link) || a.MasterIndex != attrs.Index || a.Flags&net.FlagUp == 0 || a.MTU != attrs.MTU {
			t.Errorf("%s: tap %v, master %d, flags %s, MTU %d", name, isTap(link), a.MasterIndex, a.Flags, a.MTU)
		}
		if !info.Isolated || info.Learning || info.Flood {
			t.Errorf("%s: isolated %v, learns %v, is flooded %v", name, info.Isolated, info.Learning, info.Flood)
		}
	}
	forwarding, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	must(t, err)
	if strings.TrimSpace(string(forwarding)) != "1" {
		t.Errorf("ip_forward is %s", forwarding)
	}
	got := tables(t)
	slices.Sort(got)
	if !slices.Equal(got, []string{"banger_banger0", "banger_" + tapA, "banger_" + tapB}) {
		t.Errorf("tables: %v", got)
	}
}

// TestRulesReadBack has nft(8) decode what the kernel holds: the text of the
// golden files and the expressions must mean the same.
func TestRulesReadBack(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("SKIPPED: nft is not installed")
	}
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.7")}
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: tapA}, PeerName: "peer"}))
	for _, rules := range []Ruleset{
		Render(testConfig()), Render(testConfig(), HostPort{addrs[0], 5432, 40001}), RenderPort(tapA, netip.MustParseAddr(addrA)), RenderBlock(addrs), RenderBlock(nil),
	} {
		must(t, rules.apply())
		out, err := exec.Command(nft, "list", "table", rules.Family.name, rules.Table).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if diff := cmp.Diff(rules.String(), string(out)); diff != "" {
			t.Errorf("nft reads other rules than were rendered (-rendered +read):\n%s", diff)
		}
	}
}

// TestForwardingStaysOn: banger says that it switches forwarding on, once, and
// doesn't switch it off, for others may need it by then.
func TestForwardingStaysOn(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const path = "/proc/sys/net/ipv4/ip_forward"
	must(t, os.WriteFile(path, []byte("0"), 0o644))
	var log bytes.Buffer
	n := New(testConfig(), slog.New(slog.NewTextHandler(&log, nil)))
	for range 2 {
		must(t, n.bringUp(t.Context()))
		must(t, n.takeDown(t.Context()))
	}
	if got, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(got)) != "1" {
		t.Errorf("ip_forward is %q, %v", got, err)
	}
	if strings.Count(log.String(), "ip_forward") != 1 {
		t.Errorf("the log says:\n%s", log.String())
	}
}

// TestBlockManyAddresses: hosts in clusters have thousands of addresses, more
// than a message to the kernel can hold.
func TestBlockManyAddresses(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const many = 5000
	var addrs []netip.Addr
	for a := netip.MustParseAddr("10.1.0.0"); len(addrs) < many; a = a.Next() {
		addrs = append(addrs, a)
	}
	for range 2 {
		must(t, Block(addrs))
	}
	conn, err := nftables.New()
	must(t, err)
	set, err := conn.GetSetByName(RenderBlock(nil).table(), blockSet)
	must(t, err)
	elements, err := conn.GetSetElements(set)
	must(t, err)
	if len(elements) != many {
		t.Errorf("%d of %d addresses are blocked", len(elements), many)
	}
}

func TestUpRefusesClashes(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	n := testNetwork()
	add := func(link netlink.Link, addr string) {
		t.Helper()
		must(t, netlink.LinkAdd(link))
		if addr != "" {
			must(t, configure(link.Attrs().Name, netip.MustParsePrefix(addr), netip.Addr{}))
		}
	}
	refused := func(words ...string) {
		t.Helper()
		before := linkNames(t)
		err := n.bringUp(t.Context())
		var e *api.Error
		if !errors.As(err, &e) || e.Code != api.CodeHost || e.Hint == "" {
			t.Fatalf("Up: %#v", err)
		}
		for _, w := range words {
			if !strings.Contains(e.Msg+"; "+e.Hint, w) {
				t.Errorf("%q is not in %q, hint %q", w, e.Msg, e.Hint)
			}
		}
		if diff := cmp.Diff(before, linkNames(t)); diff != "" || len(tables(t)) > 0 {
			t.Errorf("the refused Up left something: tables %v, links\n%s", tables(t), diff)
		}
	}

	stranger := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "banger0"}}
	add(stranger, "")
	refused("banger0", "bridge_name")
	if err := n.takeDown(t.Context()); err != nil || !slices.Contains(linkNames(t), "banger0") {
		t.Errorf("Down took a stranger's bridge, or failed: %v", err)
	}
	must(t, netlink.LinkDel(stranger))

	lan := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "lan0"}}
	add(lan, "172.16.9.1/12")
	refused("172.16.0.0/24", "172.16.0.0/12", "lan0", "cidr", "10.213.0.0/24")
	must(t, netlink.LinkDel(lan))

	// A crash between making a bridge and marking it must not block the next start.
	half, err := n.createBridge()
	must(t, err)
	must(t, n.bringUp(t.Context()))
	if link, err := netlink.LinkByName("banger0"); err != nil || link.Attrs().Index != half.Attrs().Index {
		t.Errorf("the half-made bridge was not adopted: %v", err)
	}
}

func TestMTU(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	check := func(want int) {
		t.Helper()
		if got, err := wayOutMTU(); err != nil || got != want {
			t.Errorf("got %d, %v; want %d", got, err, want)
		}
	}
	check(1500)
	for i, mtu := range []int{1400, 9000} {
		name := fmt.Sprintf("wan%d", i)
		must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu}}))
		must(t, configure(name, netip.MustParsePrefix(fmt.Sprintf("10.0.%d.1/24", i)), netip.Addr{}))
	}
	_, all, err := net.ParseCIDR("0.0.0.0/0")
	must(t, err)
	must(t, netlink.RouteAdd(&netlink.Route{Dst: all, Gw: net.ParseIP("10.0.0.2"), Priority: 100}))
	check(1400)
	must(t, netlink.RouteAdd(&netlink.Route{Dst: all, Gw: net.ParseIP("10.0.1.2"), Priority: 50}))
	check(1500)
	must(t, netlink.RouteAdd(&netlink.Route{Dst: all, Gw: net.ParseIP("10.0.1.2"), Priority: 10, MTU: 1280}))
	check(1280)
}

func TestWarnings(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	n := testNetwork()
	must(t, n.bringUp(t.Context()))
	check := func(want string) {
		t.Helper()
		got, err := n.Warnings(t.Context())
		must(t, err)
		if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !strings.Contains(got[0], want)) {
			t.Errorf("got %q, want one with %q", got, want)
		}
	}
	check("")
	conn, err := nftables.New()
	must(t, err)
	policy := nftables.ChainPolicyDrop
	conn.AddChain(&nftables.Chain{
		Name: "FORWARD", Table: conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"}),
		Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &policy,
	})
	must(t, conn.Flush())
	check("DOCKER-USER -i banger0")
}
