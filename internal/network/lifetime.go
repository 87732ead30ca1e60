package network

import (
	"context"
	"errors"
	"net/netip"
	"slices"
)

// Port is a VM's place in the network.
type Port struct {
	ID        string // the VM's
	Addr      netip.Addr
	HostPorts []uint16 // of the host's loopback, to which the VM may connect
}

// NIC is what the VM at a port is told of the network.
type NIC struct {
	Addr    netip.Prefix // with the subnet's length
	Gateway netip.Addr   // its DNS server as well
	MTU     int          // bytes
}

// ErrElsewhere says that the network has no such address: it has become another
// one since the VM got its own. Hosts yields those that it has now.
var ErrElsewhere = errors.New("the network has no such address any more")

// Attach gives a VM its port: a tap of the name TapName, open to a VMM, and the way
// to the ports of the host. The first port brings the network up. With ErrElsewhere
// the network stays up for the next try, until Detach.
func (n *Network) Attach(ctx context.Context, p Port) (NIC, error) {
	n.portsMu.Lock()
	defer n.portsMu.Unlock()
	if err := n.bringUp(ctx); err != nil {
		return NIC{}, err
	}
	if !n.config().has(p.Addr) {
		return NIC{}, ErrElsewhere
	}
	n.ports[p.ID] = p // before the tap, so that whatever exists of it is taken away
	if err := n.attachTap(ctx, TapName(p.ID), p.Addr); err != nil {
		return NIC{}, err
	}
	if err := n.setHostPorts(ctx, p.Addr, p.HostPorts); err != nil {
		return NIC{}, err
	}
	return NIC{Addr: netip.PrefixFrom(p.Addr, n.config().Subnet.Bits()), Gateway: n.config().Gateway, MTU: n.mtu(ctx)}, nil
}

// Detach takes a VM's port away, as far as there is one, and the network with the
// last one.
func (n *Network) Detach(ctx context.Context, id string, addr netip.Addr) error {
	n.portsMu.Lock()
	defer n.portsMu.Unlock()
	delete(n.ports, id)
	if err := n.setHostPorts(ctx, addr, nil); err != nil {
		return err
	}
	if err := n.detachTap(ctx, TapName(id)); err != nil {
		return err
	}
	if len(n.ports) > 0 || !n.kept {
		return nil
	}
	return n.takeDown(ctx)
}

// Keep is for what an earlier bangerd has left: the ports that wanted returns stay,
// with what VMs have in common, and all others go. While wanted is asked no port
// comes or goes. Until Keep has got that answer, Detach leaves the network up.
func (n *Network) Keep(ctx context.Context, wanted func() ([]Port, error)) error {
	n.portsMu.Lock()
	defer n.portsMu.Unlock()
	ports, err := wanted()
	if err != nil {
		return err
	}
	clear(n.ports)
	names := make([]string, 0, len(ports))
	for _, p := range ports {
		n.ports[p.ID] = p
		names = append(names, TapName(p.ID))
	}
	n.kept = true
	if err := n.claim(ctx, names); err != nil {
		return err
	}
	taps, err := n.taps(ctx)
	if err != nil {
		return err
	}
	for _, tap := range taps {
		if !slices.Contains(names, tap) {
			n.log.WarnContext(ctx, "remove a tap that no VM has", "tap", tap)
			if err := n.detachTap(ctx, tap); err != nil {
				return err
			}
		}
	}
	if len(ports) == 0 {
		return n.takeDown(ctx)
	}
	return n.bringUp(ctx)
}

// Mend puts right what others have changed of a running VM's port and of what VMs
// have in common. Where the tap had to be made anew the VMM is connected to it by
// reattach. A VM that has no port, or none any more, is left alone.
func (n *Network) Mend(ctx context.Context, id string, reattach func() error) error {
	n.portsMu.Lock()
	defer n.portsMu.Unlock()
	p, ok := n.ports[id]
	if !ok {
		return nil
	}
	if err := n.mendBridge(ctx); err != nil {
		return err
	}
	open, err := n.mendTap(ctx, TapName(id), p.Addr)
	if err != nil {
		return err
	}
	if !open {
		if err := reattach(); err != nil {
			return err
		}
	}
	return n.setHostPorts(ctx, p.Addr, p.HostPorts)
}
