package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"

	"banger/internal/api"
	"banger/internal/undo"
)

// tapFlags are what QEMU and Firecracker both ask for when they open a tap:
// bare Ethernet frames behind a virtio-net header. A tap opens only with the
// flags that it was made with.
const tapFlags = netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR

// attachTap makes a tap that outlives this process for the VM that has addr,
// connects it to the bridge and brings it up. What the VM sends from other
// addresses than addr and MAC(addr) is dropped. A tap of this name that is
// there already is put right, unless it is another instance's. It fails with
// api.CodeHost then, and if the host can't make or guard taps.
func (n *Network) attachTap(ctx context.Context, name string, addr netip.Addr) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	u := undo.New()
	defer func() { err = u.Finish(err) }()

	bridge, err := netlink.LinkByName(n.config().Bridge)
	if err != nil {
		return fmt.Errorf("look up bridge %s: %w", n.config().Bridge, err)
	}
	tap, err := findTap(name)
	if err != nil {
		return err
	}
	ahead := false
	if tap == nil {
		if tap = n.takeSpare(name); tap != nil {
			ahead = tap.Attrs().MTU == bridge.Attrs().MTU && tap.Attrs().MasterIndex == bridge.Attrs().Index
		} else if tap, err = n.createTap(name); err != nil {
			return err
		}
		u.Add("remove tap", func(ctx context.Context) error { return n.detachTap(ctx, name) })
	} else if err := n.checkTap(tap); err != nil {
		return err
	}
	if err := n.mark(tap); err != nil {
		return err
	}
	// All of this comes before the tap is up, and the rules come first, so that
	// there is no moment without them.
	if err := n.load(RenderPort(name, addr)); err != nil {
		return explainPort(err)
	}
	if !ahead {
		if err := n.connectTap(bridge, tap); err != nil {
			return err
		}
	}
	for _, entry := range portEntries(bridge, tap, addr) {
		if err := netlink.NeighSet(entry); err != nil {
			return fmt.Errorf("tell bridge %s that %s is behind tap %s: %w", n.config().Bridge, addr, name, err)
		}
	}
	if err := netlink.LinkSetUp(tap); err != nil {
		return fmt.Errorf("bring up tap %s: %w", name, err)
	}
	n.fillPool()
	return nil
}

// connectTap makes a tap a port of the bridge, which is then to be told of the VM.
func (n *Network) connectTap(bridge, tap netlink.Link) error {
	name := tap.Attrs().Name
	if err := netlink.LinkSetMTU(tap, bridge.Attrs().MTU); err != nil {
		return fmt.Errorf("set the MTU of tap %s: %w", name, err)
	}
	if err := disableIPv6(name); err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(tap, bridge); err != nil {
		return fmt.Errorf("connect tap %s to bridge %s: %w", name, n.config().Bridge, err)
	}
	// Nothing is to be learnt where everything is known, and what is for an
	// address that no VM has is for nobody.
	if err := errors.Join(netlink.LinkSetLearning(tap, false), netlink.LinkSetFlood(tap, false)); err != nil {
		return fmt.Errorf("configure the bridge port %s: %w", name, err)
	}
	// Isolated ports exchange frames with the bridge itself only.
	if err := netlink.LinkSetIsolated(tap, true); err != nil {
		return fmt.Errorf("isolate tap %s: %w", name, err)
	}
	return nil
}

// findTap returns nil if no link has the name.
func findTap(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up tap %s: %w", name, err)
	}
	if !isTap(link) {
		return nil, api.Errorf(api.CodeHost, "the host has a network interface %s already and it is not a tap of banger's", name)
	}
	return link, nil
}

func isTap(link netlink.Link) bool {
	tap, ok := link.(*netlink.Tuntap)
	return ok && tap.Mode == netlink.TUNTAP_MODE_TAP && tap.Flags&tapFlags == tapFlags
}

func (n *Network) createTap(name string) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	tap := &netlink.Tuntap{
		LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: tapFlags,
		Owner: n.config().TapUID, Group: n.config().TapGID,
	}
	err := netlink.LinkAdd(tap)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, api.Errorf(api.CodeHost, "create tap %s: the kernel has no /dev/net/tun", name).
			WithHint("sudo modprobe tun")
	case errors.Is(err, os.ErrPermission):
		return nil, api.Errorf(api.CodeHost, "create tap %s: %v: /dev/net/tun", name, err).
			WithHint("sudo chmod 0666 /dev/net/tun")
	case err != nil:
		return nil, fmt.Errorf("create tap %s: %w", name, err)
	}
	return tap, nil
}

// detachTap removes a tap, also one that a VMM has open. It is no error if
// there is none of this instance's.
func (n *Network) detachTap(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tap, err := findTap(name)
	if err != nil {
		return err
	}
	if tap != nil && n.isOthers(tap) {
		return nil
	}
	if tap != nil {
		if err := n.forgetPort(tap); err != nil {
			return err
		}
		if err := netlink.LinkDel(tap); err != nil && !isNotFound(err) {
			return fmt.Errorf("remove tap %s: %w", name, err)
		}
	}
	// Last, so that the tap is never there without its rules. Newer kernels
	// keep them when their interface goes, older ones an empty table.
	return n.unload(RenderPort(name, netip.IPv4Unspecified()))
}

// taps lists this instance's taps.
func (n *Network) taps(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	links, err := complete(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var names []string
	for _, link := range links {
		if isTap(link) && link.Attrs().Alias == n.alias() {
			names = append(names, link.Attrs().Name)
		}
	}
	return names, nil
}
