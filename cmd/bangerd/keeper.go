package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"banger/internal/api"
	"banger/internal/network"
	"banger/internal/paths"
	"banger/internal/rootless"
)

// What bangerd does in other processes of its own, by its first argument.
const (
	keepRole  = "keep-namespaces"      // rootless.Keep
	blockRole = "block-host-addresses" // network.Block of the addresses that follow
)

// keepNamespaces is the whole program of a keeper.
func keepNamespaces(ctx context.Context, log *slog.Logger) error {
	layout, err := paths.FromEnv()
	if err != nil {
		return err
	}
	block, err := selfAs(blockRole)
	if err != nil {
		return err
	}
	return rootless.Keep(ctx, layout, log.With("role", "keeper"), block, network.DialLoopback)
}

// blockAddresses runs inside the namespaces; on the host its rules would keep
// others from their network.
func blockAddresses(args []string) error {
	if !rootless.Inside() {
		return api.Errorf(api.CodeInvalid, "%s is for banger's own namespaces alone", blockRole)
	}
	addrs := make([]netip.Addr, 0, len(args))
	for _, arg := range args {
		addr, err := netip.ParseAddr(arg)
		if err != nil {
			return api.Errorf(api.CodeInvalid, "%q is not an address", arg)
		}
		addrs = append(addrs, addr)
	}
	return network.Block(addrs)
}

// selfAs is the command that runs this program in another role.
func selfAs(role string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the own program: %w", err)
	}
	return []string{self, role}, nil
}
