package rootless

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
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

// wantedResolvConf is what resolv.conf shall be inside, "" if the host's own
// will do: servers outside of the host are reachable as they are, and the
// host's file is the first to tell when they change.
func wantedResolvConf() (string, error) {
	host, err := os.ReadFile(resolvConf)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the host's DNS servers: %w", err)
	}
	return translate(string(host)), nil
}

// mountResolvConf makes programs inside see the wanted resolv.conf.
func mountResolvConf(ctx context.Context, layout paths.Layout, holder process, want string) error {
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

// translate replaces servers on the host's loopback, if the file names only
// such, by pasta's forwarder. It returns "" if nothing is to be replaced.
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
	return fmt.Sprintf("%snameserver %s\n%s", ownHeader, forwarder(), rest.String())
}

// isLoopback tells whether a nameserver of resolv.conf(5) listens on the
// host's loopback.
func isLoopback(server string) bool {
	addr, err := netip.ParseAddr(server)
	return err == nil && addr.IsLoopback()
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
