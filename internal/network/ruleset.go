package network

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Ruleset is one nftables table. It is a value: String shows it in the syntax
// of nft(8), apply gives it to the kernel.
type Ruleset struct {
	Family Family
	Table  string
	Sets   []Set
	Chains []Chain
}

// Family is the kind of packets that a table sees.
type Family struct {
	name string
	num  nftables.TableFamily
}

// Set is a named set of IPv4 addresses.
type Set struct {
	Name  string
	Addrs []netip.Addr
}

// Chain is a base chain with the policy "accept".
type Chain struct {
	Name     string
	Type     nftables.ChainType
	Hook     Hook
	Priority Priority
	Rules    []Rule
}

// Hook is where in the path of a packet a chain is called.
type Hook struct {
	name   string
	num    *nftables.ChainHook
	device string // the interface, where a hook belongs to one
}

// Priority orders the chains of a hook.
type Priority struct {
	name string
	num  *nftables.ChainPriority
}

// Rule applies its clauses in order until one doesn't match. The last one is
// its verdict or action.
type Rule []Clause

// Clause is one match, statement or verdict: how nft(8) writes it and the
// expressions that the kernel evaluates for it.
type Clause struct {
	text  string
	exprs []expr.Any
}

// String writes the table as `nft list table` does.
func (r Ruleset) String() string {
	var blocks []string
	for _, s := range r.Sets {
		blocks = append(blocks, s.String())
	}
	for _, c := range r.Chains {
		var b strings.Builder
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype %s hook %s priority %s; policy accept;\n", c.Name, c.Type, c.Hook, c.Priority.name)
		for _, rule := range c.Rules {
			fmt.Fprintf(&b, "\t\t%s\n", rule)
		}
		b.WriteString("\t}\n")
		blocks = append(blocks, b.String())
	}
	return fmt.Sprintf("table %s %s {\n%s}\n", r.Family.name, r.Table, strings.Join(blocks, "\n"))
}

// String writes the set in the syntax of nft(8).
func (s Set) String() string {
	elements := ""
	if len(s.Addrs) > 0 {
		addrs := make([]string, len(s.Addrs))
		for i, a := range s.Addrs {
			addrs[i] = a.String()
		}
		elements = fmt.Sprintf("\t\telements = { %s }\n", strings.Join(addrs, ", "))
	}
	return fmt.Sprintf("\tset %s {\n\t\ttype ipv4_addr\n%s\t}\n", s.Name, elements)
}

// String writes the hook in the syntax of nft(8).
func (h Hook) String() string {
	if h.device == "" {
		return h.name
	}
	return fmt.Sprintf("%s device %q", h.name, h.device)
}

// String writes the rule in the syntax of nft(8).
func (r Rule) String() string {
	texts := make([]string, len(r))
	for i, c := range r {
		texts[i] = c.text
	}
	return strings.Join(texts, " ")
}

func (r Rule) exprs() []expr.Any {
	var all []expr.Any
	for _, c := range r {
		all = append(all, c.exprs...)
	}
	return all
}
