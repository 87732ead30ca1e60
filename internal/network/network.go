package network

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"

	"banger/internal/undo"
)

// Network is the bridge of one bangerd with all that belongs to it. Methods
// are safe for concurrent use.
type Network struct {
	cfg atomic.Pointer[Config] // in force; bringUp may change it
	log *slog.Logger

	pool  tapPool
	hosts hostPorts

	dialHost HostDialer

	// portsMu is held while ports come, go or are mended, so that the network can't
	// go down with the last one while another comes.
	portsMu sync.Mutex
	ports   map[string]Port // by the VM's id
	kept    bool            // Keep has told which there are

	mu      sync.Mutex // held by what brings the whole up or down
	wanted  Config     // for when no VM runs
	lookup  LookupFunc
	reverse ReverseFunc
	dns     *dnsService // nil: doesn't run

	sealsMu sync.Mutex
	seals   map[string]string // what load has left, by table
}

// New returns the network that cfg describes; it touches nothing yet.
func New(cfg Config, log *slog.Logger) *Network {
	n := &Network{log: log, wanted: cfg, dialHost: DialLoopback, ports: make(map[string]Port)}
	n.cfg.Store(&cfg)
	return n
}

// config is what is in force.
func (n *Network) config() Config { return *n.cfg.Load() }

// Hosts yields the addresses that VMs can have.
func (n *Network) Hosts() iter.Seq[netip.Addr] { return Hosts(n.config()) }

// SetNames tells what DNS shall know of VMs. Without it there is no DNS. It
// must be called before Attach and Keep.
func (n *Network) SetNames(lookup LookupFunc, reverse ReverseFunc) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookup, n.reverse = lookup, reverse
}

// SetHostDialer tells how to connect to the host where its loopback is in
// another network namespace. It must be called before setHostPorts.
func (n *Network) SetHostDialer(dial HostDialer) { n.dialHost = dial }

// bringUp makes the rules and the bridge, lets the kernel forward, and answers DNS
// on the bridge until takeDown or Close. What exists already is kept and put
// right, and what is another instance's left alone: bringUp chooses another name or
// subnet then, as far as the configuration lets it. It fails with
// api.CodeInvalid when the configuration makes no sense and with api.CodeHost
// when it clashes with what the host has; nothing is left behind then.
func (n *Network) bringUp(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.wanted.check(); err != nil {
		return err
	}
	unlock, err := n.lockHost(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := n.settle(); err != nil {
		return err
	}
	return n.up(ctx)
}

// up is bringUp for the configuration that is in force. The caller holds mu.
func (n *Network) up(ctx context.Context) (err error) {
	u := undo.New()
	defer func() { err = u.Finish(err) }()

	bridge, err := n.findBridge()
	if err != nil {
		return err
	}
	if bridge != nil && !n.isOurs(bridge) { // made meanwhile, by something else
		return nameTaken(bridge)
	}
	if bridge == nil {
		if bridge, err = n.createBridge(); err != nil {
			return err
		}
		u.Add("remove nftables table", func(context.Context) error { return n.unload(Render(n.config())) })
		u.Add("remove bridge", func(context.Context) error { return netlink.LinkDel(bridge) })
	}
	// The rules come between: the table is ours since the bridge of its name is,
	// and the bridge isn't up without them.
	if err := n.mark(bridge); err != nil {
		return err
	}
	if err := n.load(Render(n.config(), n.hostRules()...)); err != nil {
		return err
	}
	if err := n.configureBridge(bridge); err != nil {
		return err
	}
	if err := n.enableForwarding(ctx); err != nil {
		return err
	}
	if err := n.startDNS(ctx); err != nil {
		return err
	}
	if err := n.findSpares(); err != nil {
		return err
	}
	n.log.DebugContext(ctx, "network is up", "bridge", n.config().Bridge, "gateway", n.config().Gateway, "subnet", n.config().Subnet)
	return nil
}

// takeDown removes the taps, the bridge and the rules, as far as they exist and
// are banger's. The kernel's forwarding stays on, since others may have come
// to need it (docs/adr/0018).
func (n *Network) takeDown(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	unlock, err := n.lockHost(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	n.stopDNS()
	n.hosts.closeAll()
	var errs []error
	taps, err := n.taps(ctx)
	errs = append(errs, err)
	for _, tap := range taps {
		errs = append(errs, n.detachTap(ctx, tap))
	}
	errs = append(errs, n.dropSpares(ctx))
	links, err := complete(netlink.LinkList)
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("list network interfaces: %w", err))...)
	}
	tables := []string{n.config().Bridge} // which may have been left without its bridge
	for _, link := range links {
		name := link.Attrs().Name
		if !n.isOurs(link) {
			tables = slices.DeleteFunc(tables, func(table string) bool { return table == name })
			continue
		}
		tables = append(tables, name)
		if err := netlink.LinkDel(link); err != nil && !isNotFound(err) {
			errs = append(errs, fmt.Errorf("remove bridge %s: %w", name, err))
		}
	}
	// Last, so that the bridge is never there without its rules.
	for _, bridge := range tables {
		errs = append(errs, n.unload(Ruleset{Family: familyInet(), Table: tableName(bridge)}))
	}
	return errors.Join(errs...)
}

// Close ends what runs in this process and leaves the rest to the VMs.
func (n *Network) Close() {
	n.pool.tasks.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts.closeAll()
	n.stopDNS()
}

// enableForwarding lets IPv4 packets pass between interfaces. The kernel asks
// for it on the interface where a packet comes in, and replies come in on any
// that has a route, so it can't be confined to the bridge. It stays on, see
// docs/adr/0018.
func (n *Network) enableForwarding(ctx context.Context) error {
	const path = "/proc/sys/net/ipv4/ip_forward"
	before, err := os.ReadFile(path)
	if err := writeSysctl(path, "1"); err != nil {
		return err
	}
	if err == nil && strings.TrimSpace(string(before)) != "1" {
		n.log.InfoContext(ctx, "net.ipv4.ip_forward was off; it is on now and stays so")
	}
	return nil
}

// writeSysctl writes only what differs: in containers the files can be
// read-only and right.
func writeSysctl(path, value string) error {
	old, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(old)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set a kernel parameter: %w", err)
	}
	return nil
}

// complete repeats a netlink dump that the kernel had to interrupt because
// something changed meanwhile; its result would lack entries.
func complete[T any](dump func() ([]T, error)) ([]T, error) {
	const tries = 10
	for range tries - 1 {
		if list, err := dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
	}
	return dump()
}

// isNotFound tells whether a link was not there, or went meanwhile.
func isNotFound(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound) || isNoDevice(err)
}
