package network

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// RenderPort returns the rules for what comes in from a tap: IPv4 and ARP of
// the VM that has addr, from its own hardware address. Everything else is
// dropped where it enters the host, before the bridge or the host's neighbour
// table could learn from it: other senders, claims of others' addresses, IPv6,
// and frames with a VLAN tag, which would hide from other rules what is in
// them. docs/adr/0015 tells why it is done here.
func RenderPort(tap string, addr netip.Addr) Ruleset {
	mac := hardwareAddr(addr)
	return Ruleset{
		Family: familyNetdev(),
		Table:  tableName(tap),
		Chains: []Chain{{
			Name: "ingress", Type: nftables.ChainTypeFilter, Hook: hookIngress(tap), Priority: priorityFilter(),
			Rules: []Rule{
				{etherSaddrNot(mac), drop()},
				{etherType("8021q", unix.ETH_P_8021Q), drop()},
				{etherType("8021ad", unix.ETH_P_8021AD), drop()},
				{saddrOfFrame(addr), accept()},
				{arpOverEthernet(), arpSender(mac, addr), accept()},
				{drop()},
			},
		}},
	}
}

// portEntries are what the bridge forwards by, and what the host sends to addr
// by. Both are static: the kernel doesn't change them by itself.
func portEntries(bridge, tap netlink.Link, addr netip.Addr) []*netlink.Neigh {
	mac := hardwareAddr(addr)
	return []*netlink.Neigh{
		{LinkIndex: tap.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER, State: netlink.NUD_NOARP, HardwareAddr: mac},
		{LinkIndex: bridge.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac},
	}
}

// explainPort makes an error with a hint of what kernels say that can't filter
// what comes in from a single interface.
func explainPort(err error) error {
	for _, unsupported := range []error{unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT, unix.ENOENT} {
		if errors.Is(err, unsupported) {
			return api.Errorf(api.CodeHost, "the kernel can't keep a VM from taking the addresses of others: %v", err).
				WithHint("run a kernel with CONFIG_NF_TABLES_NETDEV, which distributions' kernels have")
		}
	}
	return err
}

// forgetPort removes what the host knows of the VM behind a tap. Its entry in
// the bridge's table goes with the tap.
func (n *Network) forgetPort(tap netlink.Link) error {
	entries, err := complete(func() ([]netlink.Neigh, error) {
		return netlink.NeighList(tap.Attrs().Index, unix.AF_BRIDGE)
	})
	if err != nil {
		return fmt.Errorf("list what the bridge knows of tap %s: %w", tap.Attrs().Name, err)
	}
	bridge, err := n.findBridge()
	if bridge == nil || err != nil {
		return err
	}
	for _, e := range entries {
		addr, ok := addrOf(e.HardwareAddr)
		if !ok {
			continue
		}
		neighbour := portEntries(bridge, tap, addr)[1]
		if err := netlink.NeighDel(neighbour); err != nil && !errors.Is(err, unix.ENOENT) && !isNoDevice(err) {
			return fmt.Errorf("remove the neighbour entry of %s: %w", addr, err)
		}
	}
	return nil
}

// addrOf is the reverse of hardwareAddr.
func addrOf(mac net.HardwareAddr) (netip.Addr, bool) {
	if len(mac) != 6 {
		return netip.Addr{}, false
	}
	addr := netip.AddrFrom4([4]byte(mac[2:]))
	return addr, bytes.Equal(mac, hardwareAddr(addr))
}
