// Package network connects VMs: a bridge, a tap per VM, masquerade and
// filtering in a table of its own, and DNS on the bridge. All of it lives in
// the network namespace that bangerd is in; rendering the rules is pure,
// applying them is not.
package network

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// Config describes the network of one bangerd.
type Config struct {
	Bridge  string           // name of the bridge, e.g. "banger0"
	Gateway netip.Addr       // the bridge's address
	Subnet  netip.Prefix     // the VMs' addresses
	Owner   string           // id of the instance, in the aliases of its links; 12 hex digits
	DNS     []netip.AddrPort // upstream servers; none that is valid: those of /etc/resolv.conf

	// AutoBridge and AutoSubnet let Attach choose another name, and another Subnet
	// with its first address as Gateway, where these are taken. Chosen, if it
	// isn't nil, is told to keep the choice before it is used.
	AutoBridge, AutoSubnet bool
	Chosen                 func(bridge string, subnet netip.Prefix) error

	// TapPool is how many taps are made ahead while VMs run.
	TapPool int

	// Lock is a file that all instances of this network namespace lock while they
	// bring their network up or down; empty: there are no others.
	Lock string

	// TapUID and TapGID may open taps without CAP_NET_ADMIN. Zero: root alone.
	TapUID, TapGID uint32
}

// check tells whether the fields fit together.
func (c Config) check() error {
	switch {
	case c.Bridge == "" || len(c.Bridge) >= unix.IFNAMSIZ:
		return api.Errorf(api.CodeInvalid, "bridge_name %q is not a name of 1 to %d bytes", c.Bridge, unix.IFNAMSIZ-1)
	case !c.Subnet.IsValid() || !c.Subnet.Addr().Is4() || c.Subnet.Bits() > 30:
		return api.Errorf(api.CodeInvalid, "cidr %s is not an IPv4 network with room for VMs", c.Subnet)
	case !c.Subnet.Contains(c.Gateway):
		return api.Errorf(api.CodeInvalid, "bridge_ip %s is not in cidr %s", c.Gateway, c.Subnet)
	case c.Gateway == c.Subnet.Masked().Addr() || c.Gateway == broadcast(c.Subnet):
		return api.Errorf(api.CodeInvalid, "bridge_ip %s is the network's or the broadcast address of %s", c.Gateway, c.Subnet)
	}
	return nil
}
