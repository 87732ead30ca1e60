package network

import (
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// seal is all that a table has, as the kernel tells it. That differs a little
// from what it was given, so that what it tells now is compared with what it told
// then.
func (r Ruleset) seal() (string, error) {
	conn, err := nftables.New()
	if err != nil {
		return "", fmt.Errorf("open nftables: %w", err)
	}
	table, err := conn.ListTableOfFamily(r.Table, r.Family.num)
	if err != nil {
		return "", fmt.Errorf("look at nftables table %s: %w", r.Table, err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "flags %d\n", table.Flags)
	for _, c := range r.Chains {
		chain, err := conn.ListChain(table, c.Name)
		if err != nil {
			return "", fmt.Errorf("look at chain %s of nftables table %s: %w", c.Name, r.Table, err)
		}
		rules, err := conn.GetRules(table, chain)
		if err != nil {
			return "", fmt.Errorf("list the rules of nftables table %s: %w", r.Table, err)
		}
		fmt.Fprintf(&b, "%s %s %s\n", chain.Name, chain.Type, chain.Device)
		for _, rule := range rules {
			for _, e := range rule.Exprs {
				data, err := expr.Marshal(byte(r.Family.num), e)
				if err != nil {
					return "", fmt.Errorf("read a rule of nftables table %s: %w", r.Table, err)
				}
				fmt.Fprintf(&b, " %x", data)
			}
			b.WriteByte('\n')
		}
	}
	return b.String(), nil
}

// load gives rules to the kernel, and seals them.
func (n *Network) load(r Ruleset) error {
	if err := r.apply(); err != nil {
		return err
	}
	seal, err := r.seal()
	if err != nil {
		return err
	}
	n.sealsMu.Lock()
	defer n.sealsMu.Unlock()
	if n.seals == nil {
		n.seals = make(map[string]string)
	}
	n.seals[r.Table] = seal
	return nil
}

// The state of a table.
type tableState int

const (
	tableIntact  tableState = iota // as load has left it
	tableChanged                   // by somebody else
	tableUnknown                   // another bangerd has made it, if it is there
)

func (n *Network) stateOf(r Ruleset) tableState {
	n.sealsMu.Lock()
	want, sealed := n.seals[r.Table]
	n.sealsMu.Unlock()
	if !sealed {
		return tableUnknown
	}
	// A table that can't be made sense of isn't what banger has made.
	if now, err := r.seal(); err != nil || now != want {
		return tableChanged
	}
	return tableIntact
}

// unload removes a table, if it exists.
func (n *Network) unload(r Ruleset) error {
	n.sealsMu.Lock()
	delete(n.seals, r.Table)
	n.sealsMu.Unlock()
	return r.remove()
}
