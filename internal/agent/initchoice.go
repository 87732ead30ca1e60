package agent

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// findInit returns the path of the image's init, "" if it has none. Images made
// for containers often have a /sbin/init that nobody set up, such as busybox's,
// which then only fills the console with complaints; it doesn't count.
func findInit(root *rootDir) string {
	for _, name := range []string{"/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/etc/init", "/bin/init"} {
		if isExecutable(root, name) && isSetUp(root, name) {
			return name
		}
	}
	return ""
}

// isSystemd tells whether an init, perhaps a symlink, is systemd.
func isSystemd(root *rootDir, init string) bool {
	return init != "" && resolvedBase(root, init) == "systemd"
}

// shells are programs that don't do an init's work when they run as one.
var shells = []string{"sh", "bash", "dash", "ash", "ksh", "zsh"}

// isSetUp tells whether an init would find what it is to start.
func isSetUp(root *rootDir, init string) bool {
	base := resolvedBase(root, init)
	switch {
	case base == "systemd":
		return true
	case base == "openrc-init":
		return isExecutable(root, "/sbin/openrc") && root.exists("/etc/runlevels")
	case base == "runit-init", base == "runit":
		return isExecutable(root, "/etc/runit/1")
	case strings.HasPrefix(base, "busybox"), isSameFile(root, init, "/bin/busybox"):
		return hasInittab(root) || !root.exists("/etc/inittab") && isExecutable(root, busyboxDefault)
	case slices.Contains(shells, base), isSameFile(root, init, "/bin/sh"), isSameFile(root, init, "/bin/bash"):
		return false
	}
	// SysV's, or one of the image's own.
	return hasInittab(root) || !root.exists("/etc/inittab")
}

// busyboxDefault is what busybox's init runs where there is no inittab, see
// https://git.busybox.net/busybox/tree/init/init.c.
const busyboxDefault = "/etc/init.d/rcS"

// hasInittab tells whether there is an inittab(5) with steps for the boot, all
// of which exist. Its lines are id:runlevels:action:process; busybox takes the
// same.
func hasInittab(root *rootDir) bool {
	content, err := root.readFile("/etc/inittab")
	if err != nil {
		return false
	}
	steps := 0
	for line := range strings.Lines(string(content)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 4)
		if len(fields) < 4 || strings.HasPrefix(line, "#") || fields[2] != "sysinit" {
			continue
		}
		// "-" and "@" are flags before the program's name.
		words := strings.Fields(strings.TrimLeft(fields[3], "-@"))
		if len(words) == 0 || !findsProgram(root, words[0]) {
			return false
		}
		steps++
	}
	return steps > 0
}

// findsProgram tells whether a program exists, by path or in the usual
// directories.
func findsProgram(root *rootDir, name string) bool {
	if path.IsAbs(name) {
		return isExecutable(root, name)
	}
	return slices.ContainsFunc(filepath.SplitList(defaultPath), func(dir string) bool {
		return isExecutable(root, path.Join(dir, name))
	})
}

// resolvedBase is the last part of where a path really is, "" if it leads
// nowhere.
func resolvedBase(root *rootDir, name string) string {
	resolved, err := root.resolve(name)
	if err != nil {
		return ""
	}
	return path.Base(resolved)
}

func isExecutable(root *rootDir, name string) bool {
	info, err := statIn(root, name)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// isSameFile tells whether two paths lead to one file, as the hard links of
// busybox do.
func isSameFile(root *rootDir, a, b string) bool {
	infoA, errA := statIn(root, a)
	infoB, errB := statIn(root, b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

func statIn(root *rootDir, name string) (fs.FileInfo, error) {
	f, err := root.open(name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}
