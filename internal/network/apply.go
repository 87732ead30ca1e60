package network

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
)

// apply replaces the table, all of it in one transaction: at no time is there
// a bridge without rules.
func (r Ruleset) apply() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	// Deleting what doesn't exist fails, adding what exists doesn't: so the
	// table is added, deleted with all its old content, and added anew.
	table := conn.AddTable(r.table())
	conn.DelTable(table)
	conn.AddTable(table)
	for _, s := range r.Sets {
		if err := addSet(conn, table, s); err != nil {
			return err
		}
	}
	for _, c := range r.Chains {
		chain := conn.AddChain(&nftables.Chain{
			Name: c.Name, Table: table, Type: c.Type, Hooknum: c.Hook.num, Priority: c.Priority.num,
			Device: c.Hook.device,
		})
		for _, rule := range c.Rules {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule.exprs()})
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("load nftables table %s: %w", r.Table, err)
	}
	return nil
}

// chunk is how many elements of a set fit well into one message, the size of
// whose attributes is 64 KiB at most.
const chunk = 1000

func addSet(conn *nftables.Conn, table *nftables.Table, s Set) error {
	set := &nftables.Set{Table: table, Name: s.Name, KeyType: nftables.TypeIPAddr}
	if err := conn.AddSet(set, nil); err != nil {
		return fmt.Errorf("build nftables set %s: %w", s.Name, err)
	}
	for addrs := range slices.Chunk(s.Addrs, chunk) {
		elements := make([]nftables.SetElement, len(addrs))
		for i, a := range addrs {
			elements[i] = nftables.SetElement{Key: a.AsSlice()}
		}
		if err := conn.SetAddElements(set, elements); err != nil {
			return fmt.Errorf("build nftables set %s: %w", s.Name, err)
		}
	}
	return nil
}

// remove deletes the table if it exists.
func (r Ruleset) remove() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	conn.DelTable(conn.AddTable(r.table()))
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove nftables table %s: %w", r.Table, err)
	}
	return nil
}

func (r Ruleset) table() *nftables.Table {
	return &nftables.Table{Family: r.Family.num, Name: r.Table}
}
