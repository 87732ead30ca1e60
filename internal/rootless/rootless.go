// Package rootless lets a plain user run bangerd as if he were root: inside a
// user, a network and a mount namespace, where bangerd may make bridges, taps
// and rules and owns a whole range of uids.
//
// The namespaces are kept by a small process, the holder, so that VMs and
// their network survive bangerd. pasta (package passt) is their way out: it
// turns what leaves the namespace into the user's own sockets on the host.
// Nothing gets in except through what bangerd and the VMs open as files.
// Another process on the outside, the keeper, keeps VMs from what pasta would
// connect them to on the host itself, and starts pasta again if it ends.
//
// Enter starts this process anew inside, by nsenter(1): a Go program has
// several threads and so can't enter a user namespace itself.
package rootless

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/filelock"
	"banger/internal/paths"
)

// resolverVariable is set for programs that belong to the namespaces: where,
// inside, the host's DNS server answers; empty if no translation is needed.
const resolverVariable = "BANGER_NAMESPACE_RESOLVER"

// lockFD is where the entering shell finds the lock. Shells agree on
// redirections of one digit only.
const lockFD = 9

// entry is what runs first inside: it lets go of the lock, which says that
// somebody is about to enter, and becomes the program.
const entry = `exec 9>&-; exec "$@"`

// Inside tells whether this process was started by Enter.
func Inside() bool {
	_, marked := os.LookupEnv(resolverVariable)
	return marked && os.Geteuid() == 0
}

// Resolver is where, inside the namespaces, a DNS server answers that listens
// on the host's loopback. It understands UDP. It is the zero value where there
// is no need for it: the servers in /etc/resolv.conf can be asked then.
func Resolver() netip.AddrPort {
	addr, err := netip.ParseAddrPort(os.Getenv(resolverVariable))
	if err != nil {
		return netip.AddrPort{}
	}
	return addr
}

// Enter replaces this process by the same program with the same arguments
// inside the user's namespaces, which it makes or mends first. It returns only
// if that fails, with api.CodeHost if the host lacks something. Inside,
// paths.FromEnv returns the same layout, and Inside true. Outside, the program
// keep goes on looking after the namespaces: it is started anew by each Enter
// and calls Keep.
func Enter(ctx context.Context, layout paths.Layout, log *slog.Logger, keep []string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the own program: %w", err)
	}
	return enter(ctx, layout, log, keep, append([]string{self}, os.Args[1:]...))
}

func enter(ctx context.Context, layout paths.Layout, log *slog.Logger, keep, argv []string) error {
	nsenter, err := lookPath("nsenter")
	if err != nil {
		return err
	}
	lock, err := lockNamespaces(ctx, layout)
	if err != nil {
		return err
	}
	defer lock.Close()
	s, err := ensure(ctx, layout, log, keep)
	if err != nil {
		return err
	}
	env, err := environ(layout, s)
	if err != nil {
		return err
	}
	command := append([]string{nsenter}, nsenterArgs(s.Holder.PID)...)
	command = append(command, "/bin/sh", "-c", entry, "sh")
	if err := passOn(lock); err != nil {
		return err
	}
	err = unix.Exec(nsenter, append(command, argv...), env)
	return fmt.Errorf("enter the user's namespaces: %w", err)
}

// passOn keeps the lock over exec until the program is inside, where Release
// sees it. Whatever else has that descriptor ends with exec anyway.
func passOn(lock *os.File) error {
	fd := int(lock.Fd())
	var err error
	if fd == lockFD {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	} else {
		err = unix.Dup3(fd, lockFD, 0)
	}
	if err != nil {
		return fmt.Errorf("pass on the lock of the namespaces: %w", err)
	}
	return nil
}

func nsenterArgs(pid int) []string {
	return []string{"--user", "--net", "--mount", "--preserve-credentials", "--target", strconv.Itoa(pid), "--"}
}

// lockNamespaces waits for whoever else makes, enters or gives up the
// namespaces.
func lockNamespaces(ctx context.Context, layout paths.Layout) (*os.File, error) {
	if err := os.MkdirAll(layout.Runtime, 0o700); err != nil {
		return nil, fmt.Errorf("lock the namespaces: %w", err)
	}
	f, err := filelock.Acquire(ctx, layout.NamespaceLock())
	switch {
	case err == nil:
		return f, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("wait for another bangerd to enter the namespaces: %w", err)
	}
	return nil, fmt.Errorf("lock the namespaces: %w", err)
}

// environ is the environment of the program inside, and of the keeper.
func environ(layout paths.Layout, s state) ([]string, error) {
	set := map[string]string{
		paths.RuntimeDirVariable: layout.Runtime,
		resolverVariable:         "",
	}
	if s.Forwards {
		set[resolverVariable] = netip.AddrPortFrom(forwarder(), 53).String()
	}
	if home := os.Getenv("BANGER_HOME"); home != "" {
		// Entering changes the working directory.
		abs, err := filepath.Abs(home)
		if err != nil {
			return nil, fmt.Errorf("resolve BANGER_HOME: %w", err)
		}
		set["BANGER_HOME"] = abs
	}
	// Of a variable that is there twice, the first counts.
	env := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		_, replaced := set[name]
		return replaced
	})
	for name, value := range set {
		env = append(env, name+"="+value)
	}
	return env, nil
}

// hostAddrs lists the host's IPv4 addresses. pasta would connect whoever asks
// for one of them to the host's own services.
func hostAddrs() ([]string, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var addrs []string
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			addrs = append(addrs, p.Addr().String())
		}
	}
	return addrs, nil
}

// lookPath finds a program that the namespaces need.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", api.Errorf(api.CodeHost, "the program %s, which banger needs to work without root, is not installed", name).
			WithHint("sudo apt install %s, or run banger as root", packageOf(name))
	}
	return path, nil
}

// packageOf names the Debian package that has a program.
func packageOf(program string) string {
	switch program {
	case "pasta":
		return "passt"
	case "newuidmap", "newgidmap":
		return "uidmap"
	case "mount", "umount":
		return "mount"
	default:
		return "util-linux"
	}
}
