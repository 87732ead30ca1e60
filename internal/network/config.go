// Package network connects VMs: a bridge, a tap per VM, masquerade and
// filtering in a table of its own, and DNS on the bridge. All of it lives in
// the network namespace that bangerd is in; rendering the rules is pure,
// applying them is not.
package network

import "net/netip"

// Config describes the network of one bangerd.
type Config struct {
	Bridge  string           // name of the bridge, e.g. "banger0"
	Gateway netip.Addr       // the bridge's address
	Subnet  netip.Prefix     // the VMs' addresses
	DNS     []netip.AddrPort // upstream servers; empty: those of /etc/resolv.conf
}
