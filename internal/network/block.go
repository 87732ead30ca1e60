package network

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
)

const (
	// blockTable can't be the table of a bridge, see tableName.
	blockTable = "banger_to_host"
	blockSet   = "host_addrs"
)

// RenderBlock returns the rules that keep VMs from addrs, whatever bridge they
// are on. Only the IPv4 ones count, for VMs have no IPv6.
func RenderBlock(addrs []netip.Addr) Ruleset {
	return Ruleset{
		Family: familyInet(),
		Table:  blockTable,
		Sets:   []Set{{blockSet, setElements(addrs)}},
		Chains: []Chain{{"forward", nftables.ChainTypeFilter, hookForward(), priorityFilter(), []Rule{
			{daddrInSet(blockSet), drop()},
		}}},
	}
}

// Block lets nothing be forwarded to addrs any more, in place of those of an
// earlier call. It is for a network namespace that is all banger's, where the
// host's addresses lead to its services although no interface has them.
func Block(addrs []netip.Addr) error { return RenderBlock(addrs).apply() }

// setElements are the IPv4 addresses, sorted and each once, as the kernel wants
// them.
func setElements(addrs []netip.Addr) []netip.Addr {
	var elements []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			elements = append(elements, a)
		}
	}
	slices.SortFunc(elements, netip.Addr.Compare)
	return slices.Compact(elements)
}
