package network

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/filelock"
)

// A link's alias, which `ip link` shows, says whose it is: "banger" and the
// instance's id. Versions before there were instances marked the bridge alone,
// without an id.
const anyAlias = "banger"

func (n *Network) alias() string { return anyAlias + " " + n.config().Owner }

// lockHost keeps the host's other instances from looking for a free name or
// subnet, and from removing what is theirs, until unlock is called: between what
// they see and what they make of it nothing may change.
func (n *Network) lockHost(ctx context.Context) (unlock func(), err error) {
	path := n.config().Lock
	if path == "" {
		return func() {}, nil
	}
	f, err := filelock.Acquire(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("wait for another banger that changes its network: %w", err)
	}
	return func() { f.Close() }, nil
}

// mark makes a link this instance's.
func (n *Network) mark(link netlink.Link) error {
	if link.Attrs().Alias == n.alias() {
		return nil
	}
	if err := netlink.LinkSetAlias(link, n.alias()); err != nil {
		return fmt.Errorf("mark %s as banger's: %w", link.Attrs().Name, err)
	}
	return nil
}

// isOurs recognizes the bridge by its alias. The kernel takes an alias only
// after the bridge was made, but a group at once, by which one is known that a
// crash left in between.
func (n *Network) isOurs(link netlink.Link) bool {
	attrs := link.Attrs()
	if link.Type() != "bridge" {
		return false
	}
	return attrs.Alias == n.alias() || attrs.Alias == "" && attrs.Group == n.group()
}

// group is what a bridge is in until it has its alias; never 0, which all links
// are in.
func (n *Network) group() uint32 {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(n.config().Owner)) // never fails, see hash.Hash
	return hash.Sum32() | 1
}

// isOthers tells whether a tap is another instance's. One without an alias was
// left by a crash, or by a version that gave it none.
func (n *Network) isOthers(tap netlink.Link) bool {
	alias := tap.Attrs().Alias
	return alias != "" && alias != n.alias()
}

// whose says in words to whom a link belongs that isn't ours.
func whose(link netlink.Link) string {
	alias := link.Attrs().Alias
	switch {
	case alias == anyAlias:
		return "an older banger made it, whose VMs run"
	case strings.HasPrefix(alias, anyAlias+" "):
		return "another banger made it (instance " + strings.TrimPrefix(alias, anyAlias+" ") + ")"
	}
	return "banger did not make it"
}

// claim marks as this instance's what a version without instances has left: the
// taps of that name and the configured bridge. A bridge with taps of other VMs
// that run is another instance's, and stays so.
func (n *Network) claim(ctx context.Context, taps []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	bridge, err := n.findBridge()
	if err != nil {
		return err
	}
	if bridge != nil && (bridge.Type() != "bridge" || bridge.Attrs().Alias != anyAlias) {
		bridge = nil
	}
	links, err := complete(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list network interfaces: %w", err)
	}
	var ours []netlink.Link
	for _, link := range links {
		attrs := link.Attrs()
		if !isTap(link) || attrs.Alias != "" || !strings.HasPrefix(attrs.Name, tapPrefix) {
			continue
		}
		onBridge := bridge != nil && attrs.MasterIndex == bridge.Attrs().Index
		switch {
		case slices.Contains(taps, attrs.Name):
			ours = append(ours, link)
		case onBridge && isOpen(link):
			return nil // another's VM
		case onBridge:
			ours = append(ours, link)
		}
	}
	if bridge != nil {
		ours = append(ours, bridge)
	}
	var errs []error
	for _, link := range ours {
		errs = append(errs, n.mark(link))
	}
	return errors.Join(errs...)
}

// isOpen tells whether a process has a tap open: it has a carrier then.
func isOpen(tap netlink.Link) bool { return tap.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 }

// checkTap refuses to touch a tap of another instance. The names come from the
// VMs' ids, so this happens to a BANGER_HOME that was copied with its VMs.
func (n *Network) checkTap(tap netlink.Link) error {
	if !n.isOthers(tap) {
		return nil
	}
	return api.Errorf(api.CodeHost, "the host has a network interface %s already: %s", tap.Attrs().Name, whose(tap)).
		WithHint("stop the VM of the same id there, or make a new VM here")
}
