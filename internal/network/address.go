package network

import (
	"encoding/binary"
	"iter"
	"net"
	"net/netip"
)

// tapPrefix starts the name of every tap. With a VM's 12 hex digits it fills
// the 15 bytes that an interface's name can have.
const tapPrefix = "bgr"

// TapName is the name of the tap of the VM with this id (12 hex digits).
func TapName(id string) string { return tapPrefix + id }

// MAC derives the hardware address of the interface that has addr (IPv4). It
// is locally administered and unicast (the 2 of its first octet), and as
// unique in the bridge as addr is.
func MAC(addr netip.Addr) string { return hardwareAddr(addr).String() }

func hardwareAddr(addr netip.Addr) net.HardwareAddr {
	ip := addr.As4()
	return net.HardwareAddr{0x02, 'b', ip[0], ip[1], ip[2], ip[3]}
}

// Hosts yields the addresses that VMs can have, in order: all of the subnet
// but the network's, the gateway's and the broadcast address.
func Hosts(cfg Config) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		last := broadcast(cfg.Subnet)
		for a := cfg.Subnet.Masked().Addr().Next(); a.Less(last); a = a.Next() {
			if a != cfg.Gateway && !yield(a) {
				return
			}
		}
	}
}

// has tells whether a VM can have addr.
func (c Config) has(addr netip.Addr) bool {
	first := c.Subnet.Masked().Addr()
	return first.Less(addr) && addr.Less(broadcast(c.Subnet)) && addr != c.Gateway
}

// broadcast is the last address of an IPv4 prefix.
func broadcast(p netip.Prefix) netip.Addr {
	first := p.Masked().Addr().As4()
	var last [4]byte
	binary.BigEndian.PutUint32(last[:], binary.BigEndian.Uint32(first[:])|uint32(1<<(32-p.Bits())-1))
	return netip.AddrFrom4(last)
}
