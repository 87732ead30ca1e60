package network

import (
	"context"
	"fmt"

	"github.com/google/nftables"
)

// Warnings tells, a sentence each, what on the host may keep VMs from the
// network although Attach succeeded: firewalls of others that drop by default.
// Their rules are theirs, so banger doesn't change them.
func (n *Network) Warnings(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	var warnings []string
	for _, c := range chains {
		if w := n.warning(c); w != "" {
			warnings = append(warnings, w)
		}
	}
	return warnings, nil
}

// warning judges one chain; "" if it can't harm.
func (n *Network) warning(c *nftables.Chain) string {
	family := c.Table.Family
	ipv4 := family == nftables.TableFamilyIPv4 || family == nftables.TableFamilyINet
	if !ipv4 || c.Hooknum == nil || c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
		return ""
	}
	b := n.config().Bridge
	switch *c.Hooknum {
	case *nftables.ChainHookForward:
		return fmt.Sprintf("the firewall (table %s, chain %s) drops forwarded packets unless a rule accepts them, so VMs may not reach the internet; "+
			"with Docker on the host: sudo iptables -I DOCKER-USER -i %s -j ACCEPT; "+
			"sudo iptables -I DOCKER-USER -o %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
			c.Table.Name, c.Name, b, b)
	case *nftables.ChainHookInput:
		return fmt.Sprintf("the firewall (table %s, chain %s) drops incoming packets unless a rule accepts them, so VMs may not reach banger's DNS; "+
			"accept udp and tcp port %d from %s to %s there",
			c.Table.Name, c.Name, DNSPort, b, n.config().Gateway)
	default:
		return ""
	}
}
