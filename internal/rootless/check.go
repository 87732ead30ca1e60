package rootless

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"banger/internal/api"
)

// Finding is the result of one check of what the namespaces need.
type Finding struct {
	Name   string
	OK     bool
	Detail string // what was found, in words
	Fix    string // the command that mends it; "" if it is fine or none is known
}

// The files of subordinate ids, subuid(5).
const (
	subUIDFile = "/etc/subuid"
	subGIDFile = "/etc/subgid"
)

// minIDs is how many ids a distribution's files need: Debian's nobody is 65534.
const minIDs = 65535

// Check looks at all that a plain user needs to run VMs, cheapest first. It
// changes nothing.
func Check(ctx context.Context) []Finding {
	var findings []Finding
	for _, program := range []string{"nsenter", "newuidmap", "newgidmap", "pasta"} {
		findings = append(findings, checkProgram(program))
	}
	return append(findings,
		checkRange(subUIDFile, "--add-subuids"),
		checkRange(subGIDFile, "--add-subgids"),
		checkTun(),
		checkNamespaces(ctx))
}

// firstProblem makes an error of the first finding that isn't fine.
func firstProblem(ctx context.Context) error {
	for _, f := range Check(ctx) {
		if f.OK {
			continue
		}
		e := api.Errorf(api.CodeHost, "banger can't work without root here: %s: %s", f.Name, f.Detail)
		if f.Fix != "" {
			return e.WithHint("%s", f.Fix)
		}
		return e.WithHint("run banger as root")
	}
	return nil
}

func checkProgram(name string) Finding {
	path, err := exec.LookPath(name)
	if err != nil {
		return Finding{Name: name, Detail: "not installed", Fix: "sudo apt install " + packageOf(name)}
	}
	return Finding{Name: name, OK: true, Detail: path}
}

func checkTun() Finding {
	const path = "/dev/net/tun"
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Finding{Name: path, Detail: "the kernel has no such device", Fix: "sudo modprobe tun"}
	case err != nil:
		return Finding{Name: path, Detail: fmt.Sprintf("can't be opened: %v", err), Fix: "sudo chmod 0666 " + path}
	}
	_ = f.Close()
	return Finding{Name: path, OK: true, Detail: "can be opened"}
}

// checkNamespaces tries it. The switches by which distributions forbid it are
// only looked at to explain a failure.
func checkNamespaces(ctx context.Context) Finding {
	const name = "user namespaces"
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", ":")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
	}
	err := cmd.Run()
	if err == nil {
		return Finding{Name: name, OK: true, Detail: "can be made"}
	}
	for _, s := range []struct{ file, off, setting string }{
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"},
		{"/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"},
		{"/proc/sys/user/max_net_namespaces", "0", "user.max_net_namespaces=15000"},
	} {
		value, readErr := os.ReadFile(s.file)
		if readErr == nil && strings.TrimSpace(string(value)) == s.off {
			return Finding{Name: name, Detail: fmt.Sprintf("forbidden by %s (%v)", s.file, err), Fix: "sudo sysctl -w " + s.setting}
		}
	}
	return Finding{Name: name, Detail: fmt.Sprintf("can't be made: %v", err)}
}

func checkRange(file, option string) Finding {
	ids, err := findRange(file)
	if err == nil {
		return Finding{Name: file, OK: true, Detail: fmt.Sprintf("%d ids from %d", ids.count, ids.first)}
	}
	f := Finding{Name: file, Detail: err.Error()}
	if me, userErr := user.Current(); userErr == nil {
		first := nextFree(file)
		f.Fix = fmt.Sprintf("sudo usermod %s %d-%d %s", option, first, first+minIDs, me.Username)
	}
	return f
}

// idRange is a range of subordinate ids of a user.
type idRange struct{ first, count uint32 }

// findRange returns the largest range that the file gives to this user. It
// fails with api.CodeHost if there is none that is large enough.
func findRange(file string) (idRange, error) {
	names := []string{strconv.Itoa(os.Getuid())}
	if me, err := user.Current(); err == nil {
		names = append(names, me.Username)
	}
	f, err := os.Open(file)
	if err != nil {
		return idRange{}, api.Errorf(api.CodeHost, "no subordinate ids are known: %v", err)
	}
	defer f.Close()
	best := largest(parseRanges(f), names)
	if best.count < minIDs {
		return idRange{}, api.Errorf(api.CodeHost, "user %s has %d ids of the %d that are needed", names[len(names)-1], best.count, minIDs)
	}
	return best, nil
}

// largest picks from the ranges of an owner who goes by any of the names.
func largest(ranges []ownedRange, names []string) idRange {
	var best idRange
	for _, r := range ranges {
		if slices.Contains(names, r.owner) && r.count > best.count {
			best = r.idRange
		}
	}
	return best
}

type ownedRange struct {
	idRange
	owner string // name or uid
}

// parseRanges reads lines owner:first:count and skips all others.
func parseRanges(r io.Reader) []ownedRange {
	var ranges []ownedRange
	for lines := bufio.NewScanner(r); lines.Scan(); {
		f := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(f) != 3 {
			continue
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 == nil && err2 == nil {
			ranges = append(ranges, ownedRange{idRange{uint32(first), uint32(count)}, f[0]})
		}
	}
	return ranges
}

// nextFree is the first id after all ranges that somebody has.
func nextFree(file string) uint64 {
	next := uint64(100000) // where useradd(8) starts
	f, err := os.Open(file)
	if err != nil {
		return next
	}
	defer f.Close()
	for _, r := range parseRanges(f) {
		next = max(next, uint64(r.first)+uint64(r.count))
	}
	return next
}
