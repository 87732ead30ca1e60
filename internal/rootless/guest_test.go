package rootless

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"banger/internal/network"
)

const (
	dialTimeout  = 15 * time.Second
	blockTimeout = 300 * time.Millisecond
)

// actAsGuest makes a VM's stand-in inside: a namespace on banger's bridge. For
// each address that it reads it says whether a server there greets.
func actAsGuest() error {
	cfg := network.Config{
		Bridge: "banger0", Gateway: netip.MustParseAddr("172.16.0.1"), Subnet: netip.MustParsePrefix("172.16.0.0/24"),
	}
	other := network.Port{ID: "00000000000a", Addr: netip.MustParseAddr("172.16.0.3")}
	if _, err := network.New(cfg, slog.New(slog.DiscardHandler)).Attach(context.Background(), other); err != nil {
		return err
	}
	runtime.LockOSThread() // for the rest of this process
	here, err := netns.Get()
	if err != nil {
		return err
	}
	guest, err := netns.New()
	if err != nil {
		return err
	}
	if err := netns.Set(here); err != nil {
		return err
	}
	if err := plugIn(guest, cfg); err != nil {
		return err
	}
	if err := netns.Set(guest); err != nil {
		return err
	}
	if err := configure("eth0", "172.16.0.2/24", cfg.Gateway); err != nil {
		return err
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(greeted(lines.Text()))
	}
	return nil
}

func plugIn(guest netns.NsHandle, cfg network.Config) error {
	bridge, err := netlink.LinkByName(cfg.Bridge)
	if err != nil {
		return err
	}
	port := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "port", MasterIndex: bridge.Attrs().Index},
		PeerName:  "eth0", PeerNamespace: netlink.NsFd(guest),
	}
	return errors.Join(netlink.LinkAdd(port), netlink.LinkSetUp(port))
}

// configure gives a link an address, brings it up and, if gateway is valid,
// routes everything there.
func configure(link, addr string, gateway netip.Addr) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.AddrAdd(l, a), netlink.LinkSetUp(l)); err != nil || !gateway.IsValid() {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: gateway.AsSlice()})
}

// greeted connects to "ADDRESS TIMEOUT".
func greeted(request string) bool {
	addr, limit, _ := strings.Cut(request, " ")
	timeout, err := time.ParseDuration(limit)
	if err != nil {
		return false
	}
	// pasta accepts a connection before it has made its own.
	c, err := net.DialTimeout("tcp4", addr, timeout)
	if err != nil {
		return false
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return false
	}
	said, _ := io.ReadAll(c)
	return string(said) == greeting
}

const greeting = "hello"

// greet serves TCP at every address of the namespace.
func greet(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, greeting)
		_ = c.Close()
	}
}

// blocked lists what network.Block was last told, in the caller's namespace.
func blocked() []string {
	conn, err := nftables.New()
	if err != nil {
		return nil
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: network.RenderBlock(nil).Table}
	sets, err := conn.GetSets(table)
	if err != nil {
		return nil
	}
	var addrs []string
	for _, set := range sets {
		elements, _ := conn.GetSetElements(set)
		for _, e := range elements {
			if a, ok := netip.AddrFromSlice(e.Key); ok {
				addrs = append(addrs, a.String())
			}
		}
	}
	return sorted(addrs)
}

func sorted(addrs []string) []string {
	addrs = slices.Clone(addrs)
	slices.Sort(addrs)
	return slices.Compact(addrs)
}
