package network

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"banger/internal/api"
)

// maxChoices bounds how many names of bridges are looked at.
const maxChoices = 256

// settle brings into force the configuration that the next bringUp is for. While VMs
// run that is what their bridge has, whatever the configuration has become. Else
// it is the wanted one, and where its name or its subnet is taken, another that
// may be chosen. It fails with api.CodeHost where the user has fixed it. The
// caller holds mu.
func (n *Network) settle() error {
	links, err := complete(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list network interfaces: %w", err)
	}
	cfg := n.wanted
	if live, ok := n.findLive(links); ok {
		cfg.Bridge, cfg.Gateway, cfg.Subnet = live.Bridge, live.Gateway, live.Subnet
	} else if cfg, err = n.choose(links); err != nil {
		return err
	}
	if now := n.config(); now.Bridge != cfg.Bridge || now.Gateway != cfg.Gateway || now.Subnet != cfg.Subnet {
		n.stopDNS() // of the former address
	}
	n.cfg.Store(&cfg)
	return nil
}

// findLive finds this instance's bridge with the taps of VMs that run.
func (n *Network) findLive(links []netlink.Link) (Config, bool) {
	used := make(map[int]bool) // by index of the bridge
	for _, link := range links {
		if isTap(link) && link.Attrs().Alias == n.alias() {
			used[link.Attrs().MasterIndex] = true
		}
	}
	for _, link := range links {
		if !n.isOurs(link) || !used[link.Attrs().Index] {
			continue
		}
		addrs, err := complete(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
		if err != nil || len(addrs) != 1 {
			continue // not in order; bringUp puts it right
		}
		if p, ok := toPrefix(addrs[0].IPNet); ok {
			return Config{Bridge: link.Attrs().Name, Gateway: p.Addr(), Subnet: p.Masked()}, true
		}
	}
	return Config{}, false
}

// choose returns the wanted configuration, or one that clashes with nothing on
// the host, which is wanted from then on.
func (n *Network) choose(links []netlink.Link) (Config, error) {
	cfg := n.wanted
	routes, err := allRoutes()
	if err != nil {
		return cfg, err
	}
	ours := make(map[int]bool) // by index
	for _, link := range links {
		ours[link.Attrs().Index] = n.isOurs(link)
	}
	routes = slices.DeleteFunc(routes, func(r netlink.Route) bool { return ours[r.LinkIndex] })
	name, err := n.chooseName(cfg, links)
	if err != nil {
		return cfg, err
	}
	subnet, err := chooseSubnet(cfg, routes)
	if err != nil {
		return cfg, err
	}
	if name == cfg.Bridge && subnet == cfg.Subnet {
		return cfg, nil
	}
	if subnet != cfg.Subnet {
		cfg.Subnet, cfg.Gateway = subnet, subnet.Masked().Addr().Next()
	}
	cfg.Bridge = name
	if cfg.Chosen != nil {
		if err := cfg.Chosen(cfg.Bridge, cfg.Subnet); err != nil {
			return cfg, err
		}
	}
	n.log.Info("chose a network that is free", "bridge", cfg.Bridge, "subnet", cfg.Subnet)
	n.wanted = cfg
	return cfg, nil
}

// chooseName returns the configured name, if no other link has it, or the next
// one that is free.
func (n *Network) chooseName(cfg Config, links []netlink.Link) (string, error) {
	taken := make(map[string]netlink.Link, len(links))
	for _, link := range links {
		if !n.isOurs(link) {
			taken[link.Attrs().Name] = link
		}
	}
	other := taken[cfg.Bridge]
	if other == nil {
		return cfg.Bridge, nil
	}
	for i := range maxChoices {
		name := fmt.Sprintf("banger%d", i)
		if cfg.AutoBridge && taken[name] == nil {
			return name, nil
		}
	}
	return "", nameTaken(other)
}

// nameTaken says that another's link has the bridge's name.
func nameTaken(other netlink.Link) error {
	return api.Errorf(api.CodeHost, "the host has a network interface %s already: %s", other.Attrs().Name, whose(other)).
		WithHint("set bridge_name in config.toml to a name that is free")
}

// chooseSubnet returns the configured subnet, if the host has no route to a part
// of it, or one that is free.
func chooseSubnet(cfg Config, routes []netlink.Route) (netip.Prefix, error) {
	taken, via, clash := overlap(cfg.Subnet, routes)
	if !clash {
		return cfg.Subnet, nil
	}
	free, ok := freeSubnet(routes)
	if cfg.AutoSubnet && ok {
		return free, nil
	}
	e := api.Errorf(api.CodeHost, "the VMs' network %s (cidr) overlaps %s, which the host reaches through %s", cfg.Subnet, taken, linkName(via))
	if ok {
		return netip.Prefix{}, e.WithHint("set cidr = %q and bridge_ip = %q in config.toml", free, free.Addr().Next())
	}
	return netip.Prefix{}, e.WithHint("set cidr and bridge_ip in config.toml to a network that the host doesn't use")
}
