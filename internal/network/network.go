package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"

	"banger/internal/api"
	"banger/internal/undo"
)

// Network is the bridge of one bangerd with all that belongs to it. Methods
// are safe for concurrent use.
type Network struct {
	cfg   Config
	rules Ruleset
	log   *slog.Logger

	mu      sync.Mutex // held by what brings the whole up or down
	lookup  LookupFunc
	reverse ReverseFunc
	dns     *dnsService // nil: doesn't run
}

// New returns the network that cfg describes; it touches nothing yet.
func New(cfg Config, log *slog.Logger) *Network {
	return &Network{cfg: cfg, rules: Render(cfg), log: log.With("bridge", cfg.Bridge)}
}

// SetNames tells what DNS shall know of VMs. Without it there is no DNS. It
// must be called before Up.
func (n *Network) SetNames(lookup LookupFunc, reverse ReverseFunc) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookup, n.reverse = lookup, reverse
}

// Up makes the rules and the bridge, lets the kernel forward, and answers DNS
// on the bridge until Down or Close. What exists already is kept and put
// right. It fails with api.CodeInvalid when the configuration makes no sense
// and with api.CodeHost when it clashes with what the host has; nothing is
// left behind then.
func (n *Network) Up(ctx context.Context) (err error) {
	if err := n.cfg.check(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	u := undo.New()
	defer func() { err = u.Finish(err) }()

	bridge, err := n.findBridge()
	if err != nil {
		return err
	}
	if bridge != nil && !n.isOurs(bridge) {
		return api.Errorf(api.CodeHost, "the host has a network interface %s already and banger did not make it", n.cfg.Bridge).
			WithHint("set bridge_name in config.toml to a name that is free")
	}
	if bridge == nil {
		if err := n.checkSubnetIsFree(); err != nil {
			return err
		}
		u.Add("remove nftables table", func(context.Context) error { return n.rules.remove() })
	}
	// The rules match by the bridge's name, so they can be there before it.
	if err := n.rules.apply(); err != nil {
		return err
	}
	if bridge == nil {
		if bridge, err = n.createBridge(); err != nil {
			return err
		}
		u.Add("remove bridge", func(context.Context) error { return netlink.LinkDel(bridge) })
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
	n.log.DebugContext(ctx, "network is up", "gateway", n.cfg.Gateway, "subnet", n.cfg.Subnet)
	return nil
}

// Down removes the taps, the bridge and the rules, as far as they exist and
// are banger's. The kernel's forwarding stays on, since others may have come
// to need it (docs/adr/0018).
func (n *Network) Down(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopDNS()
	bridge, err := n.findBridge()
	if err != nil {
		return err
	}
	var errs []error
	taps, err := n.Taps(ctx)
	errs = append(errs, err)
	for _, tap := range taps {
		errs = append(errs, n.DetachTap(ctx, tap))
	}
	if bridge != nil && n.isOurs(bridge) {
		if err := netlink.LinkDel(bridge); err != nil && !isNotFound(err) {
			errs = append(errs, fmt.Errorf("remove bridge %s: %w", n.cfg.Bridge, err))
		}
	}
	// Last, so that the bridge is never there without its rules.
	errs = append(errs, n.rules.remove())
	return errors.Join(errs...)
}

// Close ends what runs in this process and leaves the rest to the VMs.
func (n *Network) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
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
