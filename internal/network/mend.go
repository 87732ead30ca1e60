package network

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// mendBridge puts right what bringUp has made for VMs that run, where somebody else has
// changed it. Where all is as it was it does nothing. It fails with api.CodeHost
// if somebody else has the bridge's name.
func (n *Network) mendBridge(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	wrong, err := n.bridgeDamage()
	if err != nil || wrong == "" {
		return err
	}
	if wrong != unknownRules {
		n.log.WarnContext(ctx, "somebody else has changed the network of VMs; it is put right", "what", wrong)
	}
	unlock, err := n.lockHost(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return n.up(ctx)
}

// mendTap is attachTap where a tap, or what is kept of it, isn't as attachTap has
// left it. Where all is as it was it does nothing. It tells whether a VMM has
// the tap open, which is not so where it had to be made anew.
func (n *Network) mendTap(ctx context.Context, name string, addr netip.Addr) (open bool, err error) {
	wrong, err := n.tapDamage(name, addr)
	if err != nil {
		return false, err
	}
	if wrong != "" {
		if wrong != unknownRules {
			n.log.WarnContext(ctx, "somebody else has changed the network of a VM; it is put right", "tap", name, "what", wrong)
		}
		if err := n.attachTap(ctx, name, addr); err != nil {
			return false, err
		}
	}
	tap, err := findTap(name)
	if err != nil {
		return false, err
	}
	if tap == nil {
		return false, fmt.Errorf("tap %s was removed again", name)
	}
	return isOpen(tap), nil
}

// What is wrong with rules, in words.
const (
	changedRules = "its rules were changed"
	unknownRules = "another bangerd has made its rules"
)

func (n *Network) rulesDamage(r Ruleset) string {
	switch n.stateOf(r) {
	case tableChanged:
		return changedRules
	case tableUnknown:
		return unknownRules
	}
	return ""
}

// bridgeDamage tells in words what is wrong with the bridge or with the rules for
// all VMs; "" if nothing is.
func (n *Network) bridgeDamage() (string, error) {
	bridge, err := n.findBridge()
	switch {
	case err != nil:
		return "", err
	case bridge == nil:
		return "the bridge was removed", nil
	case !n.isOurs(bridge):
		return "", nameTaken(bridge)
	case bridge.Attrs().Flags&net.FlagUp == 0:
		return "the bridge is down", nil
	}
	want := netip.PrefixFrom(n.config().Gateway, n.config().Subnet.Bits())
	addrs, err := complete(func() ([]netlink.Addr, error) { return netlink.AddrList(bridge, netlink.FAMILY_V4) })
	if err != nil {
		return "", fmt.Errorf("list the addresses of bridge %s: %w", n.config().Bridge, err)
	}
	if !slices.ContainsFunc(addrs, func(a netlink.Addr) bool { has, ok := toPrefix(a.IPNet); return ok && has == want }) {
		return "the bridge has lost its address", nil
	}
	return n.rulesDamage(Render(n.config(), n.hostRules()...)), nil
}

// tapDamage is bridgeDamage for the tap of the VM that has addr.
func (n *Network) tapDamage(name string, addr netip.Addr) (string, error) {
	bridge, err := n.findBridge()
	if err != nil {
		return "", err
	}
	if bridge == nil {
		return "the bridge was removed", nil
	}
	tap, err := findTap(name)
	if err != nil {
		return "", err
	}
	switch {
	case tap == nil:
		return "it was removed", nil
	case tap.Attrs().Alias != n.alias():
		return "it isn't marked as banger's", nil
	case tap.Attrs().MasterIndex != bridge.Attrs().Index:
		return "it isn't on the bridge", nil
	case tap.Attrs().Flags&net.FlagUp == 0:
		return "it is down", nil
	}
	port, err := netlink.LinkGetProtinfo(tap)
	if err != nil {
		return "", fmt.Errorf("look at the bridge port %s: %w", name, err)
	}
	if !port.Isolated || port.Learning || port.Flood {
		return "it is configured in another way on the bridge", nil
	}
	for _, want := range portEntries(bridge, tap, addr) {
		known, err := complete(func() ([]netlink.Neigh, error) { return netlink.NeighList(want.LinkIndex, want.Family) })
		if err != nil {
			return "", fmt.Errorf("list what is known of tap %s: %w", name, err)
		}
		if !slices.ContainsFunc(known, func(e netlink.Neigh) bool {
			return e.State&want.State != 0 && e.IP.Equal(want.IP) && bytes.Equal(e.HardwareAddr, want.HardwareAddr)
		}) {
			return "its address was forgotten", nil
		}
	}
	return n.rulesDamage(RenderPort(name, addr)), nil
}
