package agent

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// archiveRules say what of a root filesystem belongs to one VM and so is not in
// an image made of it. Names are absolute and clean.
type archiveRules struct {
	given given
	nodes map[inode]struct{} // of given files, for they may have other names
}

// newArchiveRules makes the rules for the tree at root.
func newArchiveRules(root string, g given) *archiveRules {
	r := &archiveRules{given: g, nodes: map[inode]struct{}{}}
	for _, name := range g.Files {
		var st unix.Stat_t
		// A file that isn't there any more needs no rule.
		if unix.Lstat(filepath.Join(root, name), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			r.nodes[inode{st.Dev, st.Ino}] = struct{}{}
		}
	}
	return r
}

// isEmptied tells of directories whose content is left out: other filesystems
// are mounted there, or what is in them is of no use to another VM.
func (r *archiveRules) isEmptied(dir string) bool {
	switch dir {
	case "/proc", "/sys", "/dev", "/run", "/tmp", "/lib/modules", "/usr/lib/modules", "/var/log/journal":
		return true
	}
	return false
}

// isLeftOut tells of files that are not in the archive at all.
func (r *archiveRules) isLeftOut(name string, st *unix.Stat_t) bool {
	switch name {
	case "/etc/hostname", "/etc/resolv.conf", environmentFile, // written at every boot
		"/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret",
		"/var/log/banger-openssh.log":
		return true
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false
	}
	dir, base := path.Split(name)
	_, twin := r.nodes[inode{st.Dev, st.Ino}]
	return twin || slices.Contains(r.given.Files, name) ||
		dir == "/etc/ssh/" && strings.HasPrefix(base, "ssh_host_") ||
		strings.HasPrefix(base, tempPrefix) ||
		strings.HasSuffix(base, ".pid") && isPIDDirectory(dir)
}

// isPIDDirectory tells of directories where files named *.pid have the numbers
// of processes; elsewhere they may be anything.
func isPIDDirectory(dir string) bool {
	below, ok := strings.CutPrefix(dir, "/var/lib/")
	return strings.HasPrefix(dir, "/var/run/") || ok && strings.Count(below, "/") <= 1
}

// edit returns how a file's content is changed, nil if it isn't. The file is
// left out where keep is false.
func (r *archiveRules) edit(name string) func(old string) (content string, keep bool) {
	switch name {
	case "/etc/machine-id", "/var/lib/dbus/machine-id":
		// Empty: systemd takes the id that the agent gives a new VM, see
		// machine-id(5).
		return func(string) (string, bool) { return "", true }
	case "/etc/hosts":
		return func(old string) (string, bool) {
			return withoutLines(old, func(line string) bool { return strings.HasSuffix(line, hostsMark) }), true
		}
	}
	// Root's home may be behind a symlink, and the user may have copied the file.
	if path.Base(name) == "authorized_keys" {
		return func(old string) (string, bool) {
			content := withoutLines(old, func(line string) bool { return slices.Contains(r.given.Keys, line) })
			return content, strings.TrimSpace(content) != ""
		}
	}
	return nil
}

// withoutLines drops lines of a text, which are judged without the space around
// them.
func withoutLines(text string, drop func(line string) bool) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !drop(strings.TrimSpace(line)) {
			b.WriteString(line)
		}
	}
	return b.String()
}
