// Package mmdebstrap makes directory trees of Debian packages by
// mmdebstrap(1). That tool knows where packages come from, and apt verifies
// their signatures with the keys that the host has.
package mmdebstrap

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"banger/internal/api"
	"banger/internal/hosttool"
)

// Variant says what mmdebstrap does with the packages.
type Variant string

// The variants in use; mmdebstrap(1) has more.
const (
	// Extract unpacks the given packages and those that they depend on, and
	// runs none of their scripts.
	Extract Variant = "extract"
	// MinBase installs the required packages and the given ones.
	MinBase Variant = "minbase"
)

// Tree describes the tree to make.
type Tree struct {
	Variant     Variant
	Suite       string   // e.g. "bookworm"
	Packages    []string // besides those of the variant
	DpkgOptions []string // kept in the tree for its own dpkg, e.g. "path-exclude=/usr/share/man/*"
	// Archives are tar files that are unpacked into the tree when all is
	// installed; symbolic links can't lead them out of it. Not for Extract.
	Archives []string
	// Commands are shell commands that run in the tree after that, with the
	// network. The first one that fails ends the run. Not for Extract.
	Commands []string
}

// Step tells how far a run is.
type Step struct {
	Detail  string
	Percent int
}

// Package is a package that was downloaded.
type Package struct {
	Name    string
	Version string
}

// unshare gives the run its own mounts and processes, so that nothing stays
// mounted or running when it is killed.
func unshare() hosttool.Tool { return hosttool.Tool{Name: "unshare", Package: "util-linux"} }

func mmdebstrap() hosttool.Tool { return hosttool.Tool{Name: "mmdebstrap", Package: "mmdebstrap"} }

// Run makes the tree in the directory target, which it creates. The caller is
// root, be it in a user namespace only. temp is an existing directory for
// temporary files. onStep may be nil. Run returns the downloaded packages.
//
// When ctx ends, or when this process dies, all processes of the run are
// killed. A failed run leaves an incomplete target, which the caller removes.
func Run(ctx context.Context, tree Tree, target, temp string, onStep func(Step), log *slog.Logger) ([]Package, error) {
	path, err := mmdebstrap().Find()
	if err != nil {
		return nil, err
	}
	out := newParser(tree.Variant, onStep)
	err = hosttool.Run(ctx, hosttool.Command{
		Tool:   unshare(),
		Args:   append([]string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", path}, arguments(tree, target)...),
		Env:    []string{"TMPDIR=" + temp},
		Dir:    temp,
		OnLine: out.line,
		Log:    log,
	})
	if err != nil {
		err = fmt.Errorf("install packages of %s: %w", tree.Suite, err)
		if out.unreachable != "" && ctx.Err() == nil {
			return nil, api.Errorf(api.CodeHost, "packages of %s could not be downloaded: %s", tree.Suite, out.unreachable).
				WithHint("check the network, the name servers and, if this host needs one, the http_proxy of bangerd")
		}
		return nil, err
	}
	return out.packages, nil
}

// arguments returns mmdebstrap's command line. It has no mirror: the tool's
// own choice depends on the host's configuration of apt, which is right.
func arguments(tree Tree, target string) []string {
	args := []string{"--verbose", "--mode=root", "--format=directory", "--variant=" + string(tree.Variant)}
	if len(tree.Packages) > 0 {
		args = append(args, "--include="+strings.Join(tree.Packages, ","))
	}
	for _, o := range tree.DpkgOptions {
		args = append(args, "--dpkgopt="+o)
	}
	for _, a := range tree.Archives {
		args = append(args, "--customize-hook=tar-in "+quote(a)+" /")
	}
	for _, c := range tree.Commands {
		args = append(args, "--chrooted-customize-hook="+c)
	}
	return append(args, tree.Suite, target)
}

// quote makes one word of s for mmdebstrap's special hooks, which split words
// as a shell does.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
