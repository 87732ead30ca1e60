package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// findBridge returns the link of the bridge's name, which may be a stranger's,
// or nil if there is none.
func (n *Network) findBridge() (netlink.Link, error) {
	link, err := netlink.LinkByName(n.config().Bridge)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up bridge %s: %w", n.config().Bridge, err)
	}
	return link, nil
}

// createBridge makes the bridge, down and without an address. Its hardware
// address is set because the kernel would otherwise take that of a port and
// change it as ports come and go, and guests would not find the gateway.
func (n *Network) createBridge() (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.config().Bridge
	attrs.HardwareAddr = hardwareAddr(n.config().Gateway)
	attrs.Group = n.group() // until it has its alias
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	if err := netlink.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("create bridge %s: %w", n.config().Bridge, err)
	}
	return bridge, nil
}

// configureBridge brings the bridge into the wanted state, whatever it is in.
func (n *Network) configureBridge(bridge netlink.Link) error {
	name := n.config().Bridge
	if err := netlink.LinkSetGroup(bridge, 0); err != nil {
		return fmt.Errorf("take bridge %s out of its group: %w", name, err)
	}
	mtu, err := wayOutMTU()
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(bridge, mtu); err != nil {
		return fmt.Errorf("set the MTU of bridge %s: %w", name, err)
	}
	if err := disableIPv6(name); err != nil {
		return err
	}
	if err := n.setAddress(bridge); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("bring up bridge %s: %w", name, err)
	}
	return nil
}

// disableIPv6 keeps the bridge from getting a link-local address; there is no
// IPv6 on it. Kernels without IPv6 have nothing to set.
func disableIPv6(bridge string) error {
	err := writeSysctl("/proc/sys/net/ipv6/conf/"+bridge+"/disable_ipv6", "1")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// setAddress gives the bridge the gateway's address and no other.
func (n *Network) setAddress(bridge netlink.Link) error {
	want := netip.PrefixFrom(n.config().Gateway, n.config().Subnet.Bits())
	addrs, err := complete(func() ([]netlink.Addr, error) { return netlink.AddrList(bridge, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list the addresses of bridge %s: %w", n.config().Bridge, err)
	}
	present := false
	for _, a := range addrs {
		if p, ok := toPrefix(a.IPNet); ok && p == want {
			present = true
			continue
		}
		if err := netlink.AddrDel(bridge, &a); err != nil {
			return fmt.Errorf("remove address %s from bridge %s: %w", a.IPNet, n.config().Bridge, err)
		}
	}
	if present {
		return nil
	}
	ipnet := &net.IPNet{IP: want.Addr().AsSlice(), Mask: net.CIDRMask(want.Bits(), 32)}
	addr := &netlink.Addr{IPNet: ipnet, Broadcast: broadcast(n.config().Subnet).AsSlice()}
	if err := netlink.AddrAdd(bridge, addr); err != nil {
		return fmt.Errorf("give bridge %s the address %s: %w", n.config().Bridge, want, err)
	}
	return nil
}

// toPrefix keeps the host bits of the address.
func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), ok
}

func isNoDevice(err error) bool { return errors.Is(err, unix.ENODEV) }
