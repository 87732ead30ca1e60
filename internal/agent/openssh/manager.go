package openssh

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// manager is a package manager and how it installs an SSH server without a
// question.
type manager struct {
	name  string
	steps []step
}

type step struct {
	program  string // "" is the manager itself
	args     []string
	optional bool // may fail
}

// managers are in the order in which they are looked for: an image may have
// dnf and yum, of which the latter is a symlink.
var managers = []manager{
	{"apt-get", []step{
		// Finishes what an earlier try was interrupted at.
		{program: "dpkg", args: []string{"--configure", "-a"}, optional: true},
		{args: []string{"update"}},
		{args: []string{"install", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold", "openssh-server"}},
		{args: []string{"clean"}, optional: true},
	}},
	{"apk", []step{{args: []string{"add", "--no-cache", "openssh-server", "openssh-sftp-server", "openssh-keygen"}}}},
	{"dnf", []step{{args: []string{"install", "-y", "--setopt=install_weak_deps=False", "openssh-server"}}}},
	{"microdnf", []step{{args: []string{"install", "-y", "--setopt=install_weak_deps=0", "openssh-server"}}}},
	{"yum", []step{{args: []string{"install", "-y", "openssh-server"}}}},
	{"zypper", []step{{args: []string{"--non-interactive", "install", "--no-recommends", "openssh"}}}},
	{"pacman", []step{{args: []string{"-Sy", "--noconfirm", "--needed", "openssh"}}}},
}

// findManager returns the image's package manager and its path.
func (t *try) findManager() (manager, string, error) {
	var names []string
	for _, m := range managers {
		if path := t.lookup(m.name); path != "" {
			return m, path, nil
		}
		names = append(names, m.name)
	}
	return manager{}, "", errors.New("the image has no package manager that could install one (" + strings.Join(names, ", ") + ")")
}

// defaultPath is where programs are looked for unless the image says otherwise.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookup finds a program in the usual directories, then in the image's own;
// "" if it is in neither.
func (g *Guest) lookup(name string) string {
	for _, dir := range append(filepath.SplitList(defaultPath), filepath.SplitList(g.Env["PATH"])...) {
		if path := filepath.Join("/", dir, name); g.isProgram(path) {
			return path
		}
	}
	return ""
}

// environment is what programs get.
func (g *Guest) environment() []string {
	env := map[string]string{"PATH": defaultPath}
	maps.Copy(env, g.Env)
	maps.Copy(env, map[string]string{"HOME": "/root", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", "TERM": "dumb"})
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// run runs a program with its output on the console and in the log. The shell in
// between takes away the agent's protection against the kernel's OOM killer,
// which children inherit.
func (t *try) run(ctx context.Context, argv []string) error {
	t.say("$ %s", strings.Join(argv, " "))
	const script = `echo 0 >/proc/self/oom_score_adj; exec "$@"`
	err := t.exec(ctx, append([]string{"/bin/sh", "-c", script, "sh"}, argv...), t.environment(), t.out)
	t.out.flush()
	return err
}
