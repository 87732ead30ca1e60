package vm

import (
	"context"
	"iter"
	"net/netip"
	"slices"
	"sync"

	"banger/internal/network"
)

// fakeNetwork is a Network in memory.
type fakeNetwork struct {
	mu      sync.Mutex
	up      bool
	taps    []string
	subnet  netip.Prefix          // zero: 172.16.0.0/29
	guarded map[string]netip.Addr // by tap
	closed  map[string]bool       // taps that no VMM has open
	ports   map[netip.Addr][]uint16
	fail    error
	blind   error         // of Keep
	changes chan struct{} // what Watch returns
}

func (n *fakeNetwork) state() (bool, []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.up, slices.Clone(n.taps)
}

func (n *fakeNetwork) Attach(_ context.Context, p network.Port) (network.NIC, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.up = true
	cfg := n.config()
	if !slices.Contains(slices.Collect(network.Hosts(cfg)), p.Addr) {
		return network.NIC{}, network.ErrElsewhere
	}
	if n.fail != nil {
		return network.NIC{}, n.fail
	}
	n.attach(p)
	return network.NIC{Addr: netip.PrefixFrom(p.Addr, cfg.Subnet.Bits()), Gateway: cfg.Gateway, MTU: 1500}, nil
}

func (n *fakeNetwork) attach(p network.Port) {
	if n.guarded == nil {
		n.guarded = make(map[string]netip.Addr)
	}
	if n.ports == nil {
		n.ports = make(map[netip.Addr][]uint16)
	}
	name := network.TapName(p.ID)
	if !slices.Contains(n.taps, name) {
		n.taps = append(n.taps, name)
	}
	n.guarded[name] = p.Addr
	delete(n.ports, p.Addr)
	if len(p.HostPorts) > 0 {
		n.ports[p.Addr] = p.HostPorts
	}
}

func (n *fakeNetwork) Detach(_ context.Context, id string, addr netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.ports, addr)
	n.taps = slices.DeleteFunc(n.taps, func(t string) bool { return t == network.TapName(id) })
	n.up = n.up && len(n.taps) > 0
	return nil
}

func (n *fakeNetwork) Keep(_ context.Context, wanted func() ([]network.Port, error)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	ports, err := wanted()
	if err != nil {
		return err
	}
	if n.blind != nil {
		return n.blind
	}
	n.taps, n.up = nil, len(ports) > 0
	for _, p := range ports {
		n.attach(p)
	}
	return nil
}

func (n *fakeNetwork) Mend(_ context.Context, id string, reattach func() error) error {
	n.mu.Lock()
	name, fail := network.TapName(id), n.fail
	lost := n.closed[name]
	n.mu.Unlock()
	if fail != nil || !lost {
		return fail
	}
	return reattach()
}

func (n *fakeNetwork) Watch(context.Context) (<-chan struct{}, error) { return n.changes, nil }

// harm changes the network as others would, whom the host tells of.
func (n *fakeNetwork) harm(change func()) {
	n.mu.Lock()
	change()
	n.mu.Unlock()
	n.changes <- struct{}{}
}

func (n *fakeNetwork) Hosts() iter.Seq[netip.Addr] {
	n.mu.Lock()
	defer n.mu.Unlock()
	return network.Hosts(n.config())
}

// config must be called with mu held.
func (n *fakeNetwork) config() network.Config {
	if !n.subnet.IsValid() {
		n.subnet = netip.MustParsePrefix("172.16.0.0/29")
	}
	return network.Config{Gateway: n.subnet.Addr().Next(), Subnet: n.subnet}
}
