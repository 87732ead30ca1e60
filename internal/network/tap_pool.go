package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/vishvananda/netlink"

	"banger/internal/guard"
)

// tapPool is what is known of the taps that were made ahead: links of this
// instance, connected to the bridge but down, that are renamed for the next VM.
// They come after the first VM's tap and go with the last one's (docs/adr/0028).
type tapPool struct {
	mu      sync.Mutex
	names   []string
	filling bool
	tasks   sync.WaitGroup
}

// spareAlias marks taps that were made ahead: they are no VM's.
func (n *Network) spareAlias() string { return n.alias() + " spare" }

// takeSpare renames a tap that was made ahead, or returns nil.
func (n *Network) takeSpare(name string) netlink.Link {
	for {
		n.pool.mu.Lock()
		if len(n.pool.names) == 0 {
			n.pool.mu.Unlock()
			return nil
		}
		spare := n.pool.names[0]
		n.pool.names = n.pool.names[1:]
		n.pool.mu.Unlock()
		link, err := netlink.LinkByName(spare)
		if err == nil {
			err = n.giveSpare(link, name)
		}
		if err == nil {
			return link
		}
		if !isNotFound(err) {
			n.log.Warn("use a tap that was made ahead", "tap", spare, "err", err)
		}
	}
}

// giveSpare makes a VM's tap of one that was made ahead. The mark comes first: a tap
// with a VM's name and another mark, which a crash in between would leave, is a
// stranger's for attachTap.
func (n *Network) giveSpare(link netlink.Link, name string) error {
	if err := n.mark(link); err != nil {
		return err
	}
	if err := netlink.LinkSetName(link, name); err != nil {
		return errors.Join(err, netlink.LinkDel(link)) // it is no spare any more
	}
	link.Attrs().Alias, link.Attrs().Name = n.alias(), name
	return nil
}

// fillPool makes taps ahead, in the background, until there are as many as
// configured.
func (n *Network) fillPool() {
	n.pool.mu.Lock()
	defer n.pool.mu.Unlock()
	if n.pool.filling || len(n.pool.names) >= n.config().TapPool {
		return
	}
	n.pool.filling = true
	n.pool.tasks.Go(guard.Func("make taps ahead", func() {
		for more := true; more; {
			more = n.addSpare()
		}
	}))
}

// addSpare makes a tap ahead and tells whether more are needed.
func (n *Network) addSpare() (more bool) {
	n.mu.Lock() // so that it can't come after takeDown
	defer n.mu.Unlock()
	var name string
	var err error
	defer func() { // after a panic, too, or nothing would fill the pool again
		n.pool.mu.Lock()
		defer n.pool.mu.Unlock()
		if name != "" {
			n.pool.names = append(n.pool.names, name)
		}
		more = err == nil && name != "" && len(n.pool.names) < n.config().TapPool
		n.pool.filling = more
	}()
	if name, err = n.makeSpare(); err != nil {
		n.log.Warn("make a tap ahead", "err", err)
	}
	return more // which is known at the end
}

// makeSpare makes a tap and returns its name, or "" if the network has gone.
func (n *Network) makeSpare() (_ string, err error) {
	bridge, err := n.findBridge()
	if err != nil || bridge == nil || !n.isOurs(bridge) {
		return "", err
	}
	id := make([]byte, 6)
	_, _ = rand.Read(id) // never fails, see crypto/rand
	name := TapName(hex.EncodeToString(id))
	tap, err := n.createTap(name)
	if err != nil {
		return "", err
	}
	err = netlink.LinkSetAlias(tap, n.spareAlias())
	if err == nil {
		err = n.connectTap(bridge, tap)
	}
	if err != nil {
		return "", errors.Join(err, netlink.LinkDel(tap))
	}
	return name, nil
}

// findSpares makes the pool of what an earlier bangerd has made ahead.
func (n *Network) findSpares() error {
	links, err := complete(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list network interfaces: %w", err)
	}
	n.pool.mu.Lock()
	defer n.pool.mu.Unlock()
	n.pool.names = nil
	for _, link := range links {
		if isTap(link) && link.Attrs().Alias == n.spareAlias() {
			n.pool.names = append(n.pool.names, link.Attrs().Name)
		}
	}
	return nil
}

// dropSpares removes the taps that were made ahead.
func (n *Network) dropSpares(ctx context.Context) error {
	err := n.findSpares()
	n.pool.mu.Lock()
	defer n.pool.mu.Unlock()
	for _, name := range n.pool.names {
		err = errors.Join(err, ctx.Err())
		link, findErr := netlink.LinkByName(name)
		if findErr == nil {
			findErr = netlink.LinkDel(link)
		}
		if findErr != nil && !isNotFound(findErr) {
			err = errors.Join(err, fmt.Errorf("remove tap %s: %w", name, findErr))
		}
	}
	n.pool.names = nil
	return err
}
