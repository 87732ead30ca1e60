package network

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// maxMTU is the largest MTU that VMs get. A tunnel in user space can offer
// a far larger one, but what runs in VMs (container bridges, above all)
// expects Ethernet's.
const maxMTU = 1500

// mtu is what VMs' interfaces shall have, in bytes: that of the bridge, which
// bringUp has set to that of the way out. 0 if it isn't known.
func (n *Network) mtu(ctx context.Context) int {
	link, err := netlink.LinkByName(n.config().Bridge)
	if err != nil {
		n.log.WarnContext(ctx, "the MTU is not known", "err", err)
		return 0
	}
	return link.Attrs().MTU
}

// wayOutMTU is the MTU of the IPv4 default route, at most 1500.
func wayOutMTU() (int, error) {
	routes, err := allRoutes()
	if err != nil {
		return 0, err
	}
	mtu, metric, found := maxMTU, 0, false
	for _, r := range routes {
		if !isDefault(r) || found && r.Priority >= metric {
			continue
		}
		routeMTU := r.MTU // set with `ip route add … mtu N`
		if routeMTU == 0 {
			link, err := netlink.LinkByIndex(r.LinkIndex)
			if err != nil {
				continue // a route that goes nowhere, or has several ways
			}
			routeMTU = link.Attrs().MTU
		}
		mtu, metric, found = routeMTU, r.Priority, true
	}
	return min(mtu, maxMTU), nil
}

// isDefault tells whether r is the main table's default route.
func isDefault(r netlink.Route) bool {
	p, ok := toPrefix(r.Dst)
	return ok && p.Bits() == 0 && r.Table == tableMain
}

// Routing tables, rtnetlink(7).
const (
	tableMain  = 254
	tableLocal = 255
)

// allRoutes lists the IPv4 routes of every table: VPNs often have their own.
func allRoutes() ([]netlink.Route, error) {
	routes, err := complete(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list the host's routes: %w", err)
	}
	return routes, nil
}

// overlap finds a route to addresses of p and returns its destination and the
// index of its link.
func overlap(p netip.Prefix, routes []netlink.Route) (netip.Prefix, int, bool) {
	for _, r := range routes {
		dst, ok := toPrefix(r.Dst)
		// Default routes are no claim; VPNs write them as two halves, too.
		if !ok || dst.Bits() <= 1 || r.Table == tableLocal {
			continue
		}
		if dst.Overlaps(p) {
			return dst, r.LinkIndex, true
		}
	}
	return netip.Prefix{}, 0, false
}

// freeSubnet finds a private network (RFC 1918) of 254 addresses.
func freeSubnet(routes []netlink.Route) (netip.Prefix, bool) {
	for _, first := range [][2]byte{{172, 16}, {172, 29}, {10, 213}, {192, 168}} {
		for third := range 256 {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{first[0], first[1], byte(third), 0}), 24)
			if _, _, taken := overlap(p, routes); !taken {
				return p, true
			}
		}
	}
	return netip.Prefix{}, false
}

func linkName(index int) string {
	if link, err := netlink.LinkByIndex(index); err == nil {
		return link.Attrs().Name
	}
	return "another interface"
}
