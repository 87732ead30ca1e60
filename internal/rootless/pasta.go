package rootless

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"banger/internal/api"
)

// forwarder is the address at which pasta takes DNS queries for the host's
// server. It is link-local (RFC 3927), so no network of the host's has it.
func forwarder() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 1, 1}) }

// pastaArgs are pasta(1)'s. They mean the same to every version since that of
// Debian 12 (2023-03).
func pastaArgs(holder int, forwards bool) []string {
	args := []string{
		"--config-net", // the host's addresses and routes
		// The gateway's address would otherwise be the host's loopback.
		"--no-map-gw",
		// No ports of the host lead in, none of the host's loopback out.
		"-t", "none", "-u", "none", "-T", "none", "-U", "none",
		"--quiet",
		// The pid comes on standard output, for which no file has to be found
		// that pasta's AppArmor profile allows.
		"--pid", "/proc/self/fd/1",
	}
	if forwards {
		// Only where it must be: it makes Debian 12's pasta change the sender
		// of all that the host's server says, also to those who asked it by
		// its own address; and pasta never notices when the server changes.
		args = append(args, "--dns-forward", forwarder().String())
	}
	return append(args, strconv.Itoa(holder))
}

// errNoNetwork says that there is nothing to connect VMs to. They run without.
var errNoNetwork = errors.New("the host is in no network")

// connect starts pasta for the holder's network namespace.
func connect(ctx context.Context, holder process, forwards bool) (process, error) {
	pasta, err := startPasta(ctx, holder, forwards)
	if err != nil && !hasDefaultRoute() {
		return process{}, fmt.Errorf("%w: %w", errNoNetwork, err)
	}
	return pasta, err
}

// startPasta returns when pasta has configured the namespace and has gone to
// the background.
func startPasta(ctx context.Context, holder process, forwards bool) (process, error) {
	const limit = 20 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	program, err := lookPath("pasta")
	if err != nil {
		return process{}, err
	}
	out, w, err := os.Pipe()
	if err != nil {
		return process{}, fmt.Errorf("start pasta: %w", err)
	}
	defer out.Close()
	// Debian 12's pasta keeps its descriptor of the pid file open, so that the
	// end of a pipe's content never comes: one line is read, not all.
	errFile, err := os.CreateTemp("", "banger-pasta-")
	if err != nil {
		return process{}, errors.Join(fmt.Errorf("start pasta: %w", err), w.Close())
	}
	defer os.Remove(errFile.Name())
	defer errFile.Close()
	cmd := exec.CommandContext(ctx, program, pastaArgs(holder.PID, forwards)...)
	cmd.Stdout, cmd.Stderr = w, errFile
	cmd.Dir = "/"
	err = cmd.Run()
	_ = w.Close()
	if err != nil {
		said, _ := os.ReadFile(errFile.Name())
		return process{}, api.Errorf(api.CodeHost, "connect VMs to the network: pasta: %v: %s", err, lastLine(string(said)))
	}
	if err := out.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return process{}, fmt.Errorf("start pasta: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return process{}, fmt.Errorf("read the pid of pasta: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return process{}, fmt.Errorf("read the pid of pasta: %w", err)
	}
	return identify(pid)
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// hasDefaultRoute tells whether the host has a way to anywhere.
func hasDefaultRoute() bool {
	if routes, err := os.ReadFile("/proc/net/route"); err == nil {
		for line := range strings.Lines(string(routes)) {
			// Interface, destination and gateway in hexadecimal, …
			if f := strings.Fields(line); len(f) > 1 && f[1] == "00000000" {
				return true
			}
		}
	}
	routes, err := os.ReadFile("/proc/net/ipv6_route")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(routes)) {
		// Destination, its prefix length, …, and the interface at the end. The
		// kernel always has a default route that refuses, on lo.
		f := strings.Fields(line)
		if len(f) > 1 && f[0] == strings.Repeat("0", 32) && f[1] == "00" && f[len(f)-1] != "lo" {
			return true
		}
	}
	return false
}
