package network

import (
	"net/netip"

	"github.com/google/nftables"
)

// linkLocal addresses are never on the internet, but a cloud's metadata
// service, which hands out the host's credentials, has one.
func linkLocal() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, 0, 0}), 16)
}

// Render returns the rules for cfg. VMs reach what is beyond the host and
// nothing of the host itself but DNS and ping on the gateway's address, and the
// ports that a VM was given; nobody reaches them but the host. The chains leave all other packets alone that mean
// anything, so they sit well beside the host's own firewall; a packet must pass
// both.
func Render(cfg Config, ports ...HostPort) Ruleset {
	r := Ruleset{
		Family: familyInet(),
		Table:  tableName(cfg.Bridge),
		Chains: []Chain{prerouting(cfg), input(cfg, ports), forward(cfg), postrouting(cfg)},
	}
	if len(ports) > 0 {
		r.Chains = append(r.Chains, toHost(cfg, ports))
	}
	return r
}

// prerouting drops what a VM must not send at all: false sources, and IPv6,
// which VMs don't have. And it drops segments without flags from elsewhere:
// Debian 12's pasta sends one after each handshake. It belongs to no connection
// that masquerading knows, so it would come to this side's own TCP, whose reset
// ends the VM's connection.
func prerouting(cfg Config) Chain {
	return Chain{"prerouting", nftables.ChainTypeFilter, hookPrerouting(), priorityRaw(), []Rule{
		{iif(cfg.Bridge), ipv6(), drop()},
		{iif(cfg.Bridge), saddrNotIn(cfg.Subnet), drop()},
		{iifNot(cfg.Bridge), tcpNoFlags(), drop()},
	}}
}

func input(cfg Config, ports []HostPort) Chain {
	rules := []Rule{
		// The gateway's address is reachable through other interfaces, too,
		// where nobody shall find an open resolver.
		{iifNot(cfg.Bridge), iifNot("lo"), daddr(cfg.Gateway), drop()},
		{iifNot(cfg.Bridge), accept()},
		{established(), accept()},
		{daddr(cfg.Gateway), dport("udp", DNSPort), accept()},
		{daddr(cfg.Gateway), dport("tcp", DNSPort), accept()},
		{daddr(cfg.Gateway), icmpEchoRequest(), accept()},
	}
	for _, p := range ports {
		rules = append(rules, Rule{saddr(p.VM), daddr(cfg.Gateway), dport("tcp", p.At), accept()})
	}
	return Chain{"input", nftables.ChainTypeFilter, hookInput(), priorityFilter(), append(rules, Rule{drop()})}
}

// toHost leads connections to where bangerd listens for them.
func toHost(cfg Config, ports []HostPort) Chain {
	var rules []Rule
	for _, p := range ports {
		rules = append(rules, Rule{iif(cfg.Bridge), saddr(p.VM), daddr(cfg.Gateway), dport("tcp", p.Port), redirect(p.At)})
	}
	return Chain{"to_host", nftables.ChainTypeNAT, hookPrerouting(), priorityDstNAT(), rules}
}

func forward(cfg Config) Chain {
	return Chain{"forward", nftables.ChainTypeFilter, hookForward(), priorityFilter(), []Rule{
		{iif(cfg.Bridge), oif(cfg.Bridge), drop()},
		// A container in a VM may have a larger MTU than the way out, and the
		// messages that would tell it so often get lost.
		{iif(cfg.Bridge), tcpSyn(), clampMSS()},
		{oif(cfg.Bridge), tcpSyn(), clampMSS()},
		{oif(cfg.Bridge), established(), accept()},
		{oif(cfg.Bridge), drop()},
		{iif(cfg.Bridge), daddrIn(linkLocal()), drop()},
		{iif(cfg.Bridge), accept()},
	}}
}

func postrouting(cfg Config) Chain {
	return Chain{"postrouting", nftables.ChainTypeNAT, hookPostrouting(), prioritySrcNAT(), []Rule{
		{saddrIn(cfg.Subnet), oifNot(cfg.Bridge), masquerade()},
	}}
}
