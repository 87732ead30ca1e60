package workspace

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// ref is one reference of a repository.
type ref struct {
	name   string
	id     string
	peeled string // the object that an annotated tag leads to; "" for others
	target string // of a symbolic ref; "" for others
}

const stashRef = "refs/stash"

// readRefs lists all refs in the order of their names. Broken ones are left
// out, as git itself ignores them.
func (r *repository) readRefs(ctx context.Context) ([]ref, error) {
	out, err := r.git.output(ctx, "for-each-ref",
		"--format=%(refname)%00%(objectname)%00%(*objectname)%00%(*objecttype)%00%(symref)")
	if err != nil {
		return nil, err
	}
	var refs []ref
	for line := range bytes.Lines(out) {
		f := strings.Split(strings.TrimSuffix(string(line), "\n"), "\x00")
		if len(f) != 5 {
			return nil, fmt.Errorf("git for-each-ref: unexpected line %q", line)
		}
		one := ref{name: f[0], id: f[1], peeled: f[2], target: f[4]}
		if f[3] == "tag" { // a tag of a tag
			if one.peeled, err = r.git.line(ctx, "rev-parse", "--verify", one.name+"^{}"); err != nil {
				return nil, err
			}
		}
		refs = append(refs, one)
	}
	return refs, nil
}

// writeRefs writes HEAD, all refs and the stash.
func (g *gitDir) writeRefs(ctx context.Context) error {
	head, err := g.head(ctx)
	if err != nil {
		return err
	}
	if err := g.write("HEAD", []byte(head+"\n")); err != nil {
		return err
	}
	refs, err := g.repo.readRefs(ctx)
	if err != nil {
		return err
	}
	if g.branch != "" {
		id := g.start
		if id == "" {
			if id, err = g.repo.commit(ctx, "HEAD"); err != nil {
				return err
			}
		}
		if id != "" { // else the first commit will make it
			refs = append(refs, ref{name: headsPrefix + g.branch, id: id})
		}
	}
	slices.SortFunc(refs, func(a, b ref) int { return cmp.Compare(a.name, b.name) })
	packed := bytes.NewBufferString("# pack-refs with: peeled fully-peeled sorted \n")
	for _, one := range refs {
		loose := ""
		switch {
		case !filepath.IsLocal(one.name):
			return fmt.Errorf("read refs: bad name %q", one.name)
		case one.target != "":
			loose = "ref: " + one.target
		case isPerWorktree(one.name):
			loose = one.id
		}
		if loose != "" {
			if err := g.write(one.name, []byte(loose+"\n")); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(packed, "%s %s\n", one.id, one.name)
		if one.peeled != "" {
			fmt.Fprintf(packed, "^%s\n", one.peeled)
		}
	}
	if err := g.write("packed-refs", packed.Bytes()); err != nil {
		return err
	}
	if slices.ContainsFunc(refs, func(r ref) bool { return r.name == stashRef }) {
		return g.writeStash(ctx)
	}
	return nil
}

// isPerWorktree reports whether git keeps a ref for each working tree. It
// doesn't look for such refs in packed-refs.
func isPerWorktree(name string) bool {
	return strings.HasPrefix(name, "refs/bisect/") ||
		strings.HasPrefix(name, "refs/worktree/") ||
		strings.HasPrefix(name, "refs/rewritten/")
}

// writeStash writes the reflog of the stash, which alone knows all entries but
// the last. It asks git for it, whatever the repository stores refs in.
func (g *gitDir) writeStash(ctx context.Context) error {
	out, err := g.repo.git.output(ctx, "reflog", "show", "--date=raw", "--format=%H%x00%gn%x00%ge%x00%gd%x00%gs", stashRef, "--")
	if err != nil {
		return err
	}
	lines := slices.Collect(strings.Lines(string(out)))
	slices.Reverse(lines) // the file has the oldest entry first
	var log bytes.Buffer
	old := strings.Repeat("0", g.repo.objectIDLen())
	for _, line := range lines {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\x00")
		if len(f) != 5 {
			return fmt.Errorf("git reflog: unexpected line %q", line)
		}
		_, when, ok := strings.Cut(f[3], "@{") // stash@{1700000000 +0100}
		if !ok {
			return fmt.Errorf("git reflog: unexpected line %q", line)
		}
		fmt.Fprintf(&log, "%s %s %s <%s> %s\t%s\n", old, f[0], f[1], f[2], strings.TrimSuffix(when, "}"), f[4])
		old = f[0]
	}
	return g.write("logs/"+stashRef, log.Bytes())
}
