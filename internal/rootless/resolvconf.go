package rootless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"banger/internal/api"
	"banger/internal/paths"
)

const (
	resolvConf = "/etc/resolv.conf"
	ownHeader  = "# banger: the host's DNS server, as seen from the namespaces of VMs\n"
)

// mountResolvConf lets programs inside resolve names: where the host's
// resolv.conf names servers on the host's loopback only, one that names
// Resolver is mounted over it. Other servers are reachable as they are, and
// the host's file says it first when they change.
func mountResolvConf(ctx context.Context, layout paths.Layout, holder process) error {
	host, err := os.ReadFile(resolvConf)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the host's DNS servers: %w", err)
	}
	want := translate(string(host))
	// Through /proc it is seen as the holder sees it.
	seen, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(holder.PID), "root", resolvConf))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the DNS servers inside the namespaces: %w", err)
	}
	if mounted := strings.HasPrefix(string(seen), ownHeader); mounted {
		if string(seen) == want {
			return nil
		}
		if err := runInside(ctx, holder, "umount", resolvConf); err != nil {
			return err
		}
	}
	if want == "" {
		return nil
	}
	if err := os.WriteFile(layout.NamespaceResolvConf(), []byte(want), 0o600); err != nil {
		return fmt.Errorf("write resolv.conf for the namespaces: %w", err)
	}
	return runInside(ctx, holder, "mount", "--bind", layout.NamespaceResolvConf(), resolvConf)
}

// translate returns the resolv.conf for inside, "" if the host's will do.
func translate(host string) string {
	var rest strings.Builder
	loopback := false
	for line := range strings.Lines(host) {
		fields := strings.Fields(line)
		switch {
		case len(fields) < 2 || strings.ContainsAny(fields[0][:1], "#;"):
		case fields[0] != "nameserver":
			rest.WriteString(strings.TrimSuffix(line, "\n") + "\n")
		case !isLoopback(fields[1]):
			return ""
		default:
			loopback = true
		}
	}
	if !loopback {
		return ""
	}
	return fmt.Sprintf("%snameserver %s\n%s", ownHeader, Resolver().Addr(), rest.String())
}

// runInside runs a command in the holder's namespaces.
func runInside(ctx context.Context, holder process, command ...string) error {
	nsenter, err := lookPath("nsenter")
	if err != nil {
		return err
	}
	program, err := lookPath(command[0])
	if err != nil {
		return err
	}
	args := append(nsenterArgs(holder.PID), program)
	out, err := exec.CommandContext(ctx, nsenter, append(args, command[1:]...)...).CombinedOutput()
	if err != nil {
		return api.Errorf(api.CodeHost, "%s inside the namespaces: %v: %s", command[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}
