package network

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"banger/internal/api"
)

// neighbour is the network of a second instance on the host, which may choose.
func neighbour(chosen *[]string) *Network {
	cfg := testConfig()
	cfg.Owner, cfg.AutoBridge, cfg.AutoSubnet = "ba9876543210", true, true
	cfg.Chosen = func(bridge string, subnet netip.Prefix) error {
		*chosen = append(*chosen, bridge+" "+subnet.String())
		return nil
	}
	return New(cfg, slog.New(slog.DiscardHandler))
}

// linksOf describes the links of an instance as far as it matters to its VMs.
func linksOf(t *testing.T, n *Network) []string {
	t.Helper()
	links, err := complete(netlink.LinkList)
	must(t, err)
	var found []string
	for _, link := range links {
		if a := link.Attrs(); a.Alias == n.alias() {
			found = append(found, strings.Join([]string{a.Name, a.Alias, (a.Flags & net.FlagUp).String(), link.Type()}, " "))
		}
	}
	return found
}

// TestInstancesShareAHost: whatever a second instance does, the first one's
// bridge, taps and rules stay as they are.
func TestInstancesShareAHost(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needTun(t)
	ctx, first := t.Context(), testNetwork()
	var chosen []string
	second := neighbour(&chosen)
	must(t, first.bringUp(ctx))
	must(t, first.attachTap(ctx, tapA, netip.MustParseAddr(addrA)))
	before, tablesBefore := linksOf(t, first), tables(t)
	check := func(what string) {
		t.Helper()
		if diff := cmp.Diff(before, linksOf(t, first)); diff != "" {
			t.Errorf("%s changed what is another's:\n%s", what, diff)
		}
		for _, table := range tablesBefore {
			if !slices.Contains(tables(t), table) {
				t.Errorf("%s removed the table %s", what, table)
			}
		}
	}

	if taps, err := second.taps(ctx); err != nil || len(taps) > 0 {
		t.Errorf("the second one has taps %v, %v", taps, err)
	}
	must(t, second.claim(ctx, nil))
	must(t, second.takeDown(ctx))
	check("Down")
	must(t, second.detachTap(ctx, tapA))
	check("detachTap")
	for range 2 {
		must(t, second.bringUp(ctx))
	}
	check("Up")
	if diff := cmp.Diff([]string{"banger1 172.16.1.0/24"}, chosen); diff != "" {
		t.Errorf("chosen:\n%s", diff)
	}
	if second.config().Subnet.String() != "172.16.1.0/24" || second.config().Gateway.String() != "172.16.1.1" {
		t.Errorf("the second one has %s in %s", second.config().Gateway, second.config().Subnet)
	}
	if err := second.attachTap(ctx, tapA, netip.MustParseAddr("172.16.1.5")); err == nil || !strings.Contains(err.Error(), "another banger") {
		t.Errorf("attachTap of another's: %v", err)
	}
	check("attachTap")
	must(t, second.attachTap(ctx, tapB, netip.MustParseAddr("172.16.1.6")))
	must(t, first.bringUp(ctx))
	must(t, first.takeDown(ctx))
	if left := linksOf(t, second); len(left) != 2 {
		t.Errorf("the first one's end left of the second %v", left)
	}
	must(t, second.bringUp(ctx)) // its VM runs on where it is
	if len(chosen) != 1 {
		t.Errorf("chosen: %v", chosen)
	}
	must(t, second.takeDown(ctx))
	if left := tables(t); len(left) > 0 {
		t.Errorf("tables are left: %v", left)
	}
}

// TestInstancesChooseInTurn: while one instance makes what it has seen to be free,
// no other brings its network up or down.
func TestInstancesChooseInTurn(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	ctx, lock := t.Context(), filepath.Join(t.TempDir(), "lock")
	cfg := testConfig()
	cfg.Lock = lock
	first := New(cfg, slog.New(slog.DiscardHandler))
	stranger := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: cfg.Bridge}}
	must(t, netlink.LinkAdd(stranger))

	cfg.Owner, cfg.AutoBridge = "ba9876543210", true
	chosen := 0
	cfg.Chosen = func(string, netip.Prefix) error {
		chosen++
		must(t, netlink.LinkDel(stranger))
		impatient, cancel := context.WithCancel(ctx)
		cancel()
		if err := first.bringUp(impatient); !errors.Is(err, context.Canceled) {
			t.Errorf("Up while another looks for a name: %v", err)
		}
		if err := first.takeDown(impatient); !errors.Is(err, context.Canceled) {
			t.Errorf("Down while another looks for a name: %v", err)
		}
		return nil
	}
	second := New(cfg, slog.New(slog.DiscardHandler))
	must(t, second.bringUp(ctx))
	if names := linkNames(t); chosen != 1 || slices.Contains(names, "banger0") || !slices.Contains(names, "banger1") {
		t.Errorf("chosen %d times; links: %v", chosen, names)
	}
	must(t, second.takeDown(ctx))
}

// What the user has fixed isn't chosen, but said.
func TestFixedNetworkOfAnotherInstance(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	ctx := t.Context()
	must(t, testNetwork().bringUp(ctx))
	for name, c := range map[string]struct {
		change func(*Config)
		words  []string
	}{
		"both":   {func(c *Config) { c.AutoBridge, c.AutoSubnet = false, false }, []string{"banger0", "another banger", "0123456789ab", "bridge_name"}},
		"name":   {func(c *Config) { c.AutoBridge = false }, []string{"banger0", "another banger", "bridge_name"}},
		"subnet": {func(c *Config) { c.AutoSubnet = false }, []string{"172.16.0.0/24", "cidr", "172.16.1.0/24"}},
	} {
		var chosen []string
		n := neighbour(&chosen)
		c.change(&n.wanted)
		err := api.AsError(n.bringUp(ctx))
		for _, word := range c.words {
			if !strings.Contains(err.Msg+" "+err.Hint, word) {
				t.Errorf("%s: %q is not in %q, hint %q", name, word, err.Msg, err.Hint)
			}
		}
		if err.Code != api.CodeHost || len(chosen) > 0 {
			t.Errorf("%s: code %s, chosen %v", name, err.Code, chosen)
		}
	}
}

// A configuration that changed while VMs run waits until none does.
func TestRunningVMsKeepTheirNetwork(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needTun(t)
	ctx := t.Context()
	n := testNetwork()
	must(t, n.bringUp(ctx))
	must(t, n.attachTap(ctx, tapA, netip.MustParseAddr(addrA)))
	cfg := testConfig()
	cfg.Bridge, cfg.Gateway, cfg.Subnet = "other0", netip.MustParseAddr("10.7.0.1"), netip.MustParsePrefix("10.7.0.0/24")
	n = New(cfg, slog.New(slog.DiscardHandler))
	must(t, n.bringUp(ctx))
	if n.config().Bridge != "banger0" || n.config().Gateway.String() != "172.16.0.1" {
		t.Errorf("it has %s on %s while a VM runs", n.config().Gateway, n.config().Bridge)
	}
	must(t, n.detachTap(ctx, tapA))
	must(t, n.takeDown(ctx))
	must(t, n.bringUp(ctx))
	if names := linkNames(t); !slices.Contains(names, "other0") || slices.Contains(names, "banger0") {
		t.Errorf("links: %v", names)
	}
}

// TestClaim takes over what versions without instances have left, unless it is
// another's.
func TestClaim(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needTun(t)
	ctx, n := t.Context(), testNetwork()
	older := func() {
		t.Helper()
		must(t, n.bringUp(ctx))
		must(t, n.attachTap(ctx, tapA, netip.MustParseAddr(addrA)))
		must(t, n.attachTap(ctx, tapB, netip.MustParseAddr(addrB)))
		for name, alias := range map[string]string{"banger0": anyAlias, tapA: "", tapB: ""} {
			link, err := netlink.LinkByName(name)
			must(t, err)
			must(t, netlink.LinkSetAlias(link, alias))
		}
	}
	open := func(tap string) *os.File {
		t.Helper()
		f := openTap(t, tap)
		link, err := netlink.LinkByName(tap)
		must(t, err)
		if !isOpen(link) {
			t.Fatalf("%s isn't seen to be open", tap)
		}
		return f
	}
	for _, c := range []struct {
		name string
		mine []string // taps that the records know
		open []string
		want []string // the links that are ours then
	}{
		{"mine run", []string{tapA, tapB}, []string{tapA, tapB}, []string{"banger0", tapA, tapB}},
		{"one is left over", []string{tapA}, []string{tapA}, []string{"banger0", tapA, tapB}},
		{"none runs", nil, nil, []string{"banger0", tapA, tapB}},
		{"another's runs", nil, []string{tapA}, nil},
	} {
		older()
		var files []*os.File
		for _, tap := range c.open {
			files = append(files, open(tap))
		}
		must(t, n.claim(ctx, c.mine))
		var got []string
		for _, line := range linksOf(t, n) {
			name, _, _ := strings.Cut(line, " ")
			got = append(got, name)
		}
		slices.Sort(got)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
		if c.want == nil {
			if err := n.bringUp(ctx); err == nil || !strings.Contains(err.Error(), "older banger") {
				t.Errorf("%s: %v", c.name, err)
			}
			for _, name := range []string{"banger0", tapA, tapB} {
				link, err := netlink.LinkByName(name)
				must(t, err)
				must(t, n.mark(link))
			}
		}
		for _, f := range files {
			must(t, f.Close())
		}
		must(t, n.takeDown(ctx))
	}
}
