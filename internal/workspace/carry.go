package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"banger/internal/api"
)

// maxListed is how many paths an error lists.
const maxListed = 10

// carry is what becomes of a working tree whose branch starts at another commit
// than HEAD. As with git switch, what that commit changes is taken from it, and
// all else stays as it is: staged, changed, deleted, untracked.
type carry struct {
	work     []string             // paths that differ from HEAD in the index or the working tree, or are untracked
	unmerged []string             // those of work that are in conflict
	there    map[string]bool      // those of work that differ from the index in the working tree, or are untracked
	changed  map[string]treeEntry // by path; what the other commit changes; mode is "" where it has nothing
	modules  map[string]string    // by path; what HEAD has recorded of the submodules that it changes
}

// planCarry compares a working tree with HEAD, and HEAD with a commit.
func planCarry(ctx context.Context, r *repository, start string) (*carry, error) {
	c := &carry{changed: make(map[string]treeEntry), modules: make(map[string]string)}
	base, err := r.headTree(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.readWork(ctx, r, base); err != nil {
		return nil, err
	}
	if err := c.readChanges(ctx, r, base, start); err != nil {
		return nil, err
	}
	return c, c.leaveStaged(ctx, r)
}

// headTree is the tree of HEAD, which is empty before there is a commit.
func (r *repository) headTree(ctx context.Context) (string, error) {
	head, err := r.commit(ctx, "HEAD")
	if err != nil || head != "" {
		return head, err
	}
	return r.git.line(ctx, "hash-object", "-t", "tree", "--stdin")
}

// readWork finds out what isn't committed. Submodules are not looked into by git,
// which would do so with their own configuration.
func (c *carry) readWork(ctx context.Context, r *repository, base string) error {
	c.there = make(map[string]bool)
	out, err := r.inWorktree(ctx, r.git, "status", "--porcelain=v2", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules=all")
	if err != nil {
		return err
	}
	for _, line := range fields(out) {
		kind, _, _ := strings.Cut(line, " ")
		columns, known := map[string]int{"1": 9, "u": 11, "?": 2}[kind]
		f := strings.SplitN(line, " ", columns)
		if !known || len(f) != columns {
			return fmt.Errorf("git status: unexpected line %q", line)
		}
		name := strings.TrimSuffix(f[columns-1], "/") // an untracked repository
		c.work = append(c.work, name)
		if kind == "u" {
			c.unmerged = append(c.unmerged, name)
		}
		c.there[name] = kind == "?" || f[1][1] != '.'
	}
	// With --cached nothing but the index is looked at, of submodules too.
	out, err = r.git.output(ctx, "diff-index", "--cached", "--name-only", "-z", "--no-renames", "--ignore-submodules=none", base)
	if err != nil {
		return err
	}
	c.work = append(c.work, fields(out)...)
	slices.Sort(c.work)
	c.work = slices.Compact(c.work)
	return nil
}

// readChanges finds out what a commit changes.
func (c *carry) readChanges(ctx context.Context, r *repository, base, start string) error {
	out, err := r.git.output(ctx, "diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", "--ignore-submodules=none", base, start)
	var failed *gitError
	if errors.As(err, &failed) && r.isPartial() {
		return r.lacksContent(start, "of directories")
	}
	if err != nil {
		return err
	}
	lines := fields(out)
	for len(lines) >= 2 {
		f := strings.Fields(strings.TrimPrefix(lines[0], ":")) // modes, ids, what was done
		name := lines[1]
		if len(f) != 5 || !filepath.IsLocal(name) {
			return fmt.Errorf("git diff-tree: unexpected line %q", lines[0])
		}
		e := treeEntry{mode: f[1], id: f[3], path: name}
		if strings.Trim(e.mode, "0") == "" {
			e.mode = "" // it is deleted there
		}
		if f[0] == modeSubmodule {
			c.modules[name] = f[2]
		}
		c.changed[name] = e
		lines = lines[2:]
	}
	return nil
}

// leaveStaged takes out of what the commit changes the paths that are staged just
// as it has them: git switch leaves those alone, with what the working tree has.
// An untracked file is in the way of a commit that has none.
func (c *carry) leaveStaged(ctx context.Context, r *repository) error {
	if len(c.overlap()) == 0 {
		return nil
	}
	staged, err := r.index(ctx)
	if err != nil {
		return err
	}
	for name, e := range c.changed {
		in, is := staged[name]
		if is && in.mode == e.mode && in.id == e.id || !is && e.mode == "" && !c.there[name] {
			delete(c.changed, name)
			delete(c.modules, name)
		}
	}
	return nil
}

// index is what is staged, by path. What is in conflict has no mode or id.
func (r *repository) index(ctx context.Context) (map[string]treeEntry, error) {
	out, err := r.git.output(ctx, "ls-files", "--stage", "-z")
	if err != nil {
		return nil, err
	}
	staged := make(map[string]treeEntry)
	for _, line := range fields(out) {
		meta, name, ok := strings.Cut(line, "\t")
		f := strings.Fields(meta) // mode, id, stage
		if !ok || len(f) != 3 || !filepath.IsLocal(name) {
			return nil, fmt.Errorf("git ls-files: unexpected line %q", line)
		}
		e := treeEntry{path: name}
		if f[2] == "0" {
			e.mode, e.id = f[0], f[1]
		}
		staged[name] = e
	}
	return staged, nil
}

// check refuses work that is in the way of the commit that from names.
func (c *carry) check(ctx context.Context, r *repository, from, tmp string) error {
	overlap := c.overlap()
	for name, recorded := range c.modules {
		moved, err := hasWork(ctx, filepath.Join(r.top, name), recorded, tmp)
		if err != nil {
			return err
		}
		if moved {
			overlap = append(overlap, name)
		}
	}
	slices.Sort(overlap)
	overlap = slices.Compact(overlap)
	const hint = "commit or stash it, or leave it on the host with --leave-changes"
	switch busy := r.unfinished(); {
	case len(c.unmerged) > 0:
		return api.Errorf(api.CodeConflict, "%s has paths in conflict, which can't be taken to %s:\n%s", r.top, from, list(c.unmerged)).
			WithHint("resolve them, or leave them on the host with --leave-changes")
	case len(overlap) > 0:
		return api.Errorf(api.CodeConflict, "uncommitted work in %s is in the way of %s, which has something else there:\n%s", r.top, from, list(overlap)).WithHint(hint)
	case len(c.work) > 0 && busy != "":
		return api.Errorf(api.CodeConflict, "%s is in the midst of %s, which can't be taken to %s:\n%s", r.top, busy, from, list(c.work)).WithHint(hint)
	}
	return nil
}

// overlap lists the work at paths, or above or below paths, that the commit
// changes.
func (c *carry) overlap() []string {
	above := make(map[string]bool)
	for name := range c.changed {
		for dir := path.Dir(name); dir != "." && !above[dir]; dir = path.Dir(dir) {
			above[dir] = true
		}
	}
	var found []string
	for _, name := range c.work {
		hit := above[name]
		for at := name; at != "." && !hit; at = path.Dir(at) {
			_, hit = c.changed[at]
		}
		if hit {
			found = append(found, name)
		}
	}
	return found
}

// hasWork reports whether a submodule, if it is checked out, isn't at a commit
// or has something uncommitted, or one of its own submodules does.
func hasWork(ctx context.Context, dir, recorded, tmp string) (bool, error) {
	if !exists(filepath.Join(dir, ".git")) {
		return false, nil
	}
	r, err := openNested(ctx, dir, tmp)
	if err != nil {
		return false, err
	}
	head, err := r.headTree(ctx)
	if err != nil || head != recorded {
		return true, err
	}
	var c carry
	if err := c.readWork(ctx, r, head); err != nil || len(c.work) > 0 {
		return true, err
	}
	staged, err := r.index(ctx) // which is what is committed
	if err != nil {
		return false, err
	}
	for name, e := range staged {
		if e.mode != modeSubmodule {
			continue
		}
		if has, err := hasWork(ctx, filepath.Join(dir, name), e.id, tmp); has || err != nil {
			return has, err
		}
	}
	return false, nil
}

// unfinished names the operation that a repository is in the midst of, "" if
// there is none that git switch would refuse to leave.
func (r *repository) unfinished() string {
	for _, one := range [][2]string{
		{"MERGE_HEAD", "a merge"}, {"CHERRY_PICK_HEAD", "a cherry-pick"}, {"REVERT_HEAD", "a revert"},
		{"rebase-merge", "a rebase"}, {"rebase-apply", "a rebase"},
	} {
		if exists(filepath.Join(r.gitDir, one[0])) {
			return one[1]
		}
	}
	return ""
}

func list(names []string) string {
	more := ""
	if n := len(names) - maxListed; n > 0 {
		names, more = names[:maxListed], fmt.Sprintf("\n… and %d more", n)
	}
	return strings.Join(names, "\n") + more
}

// carried is the content of a working tree on its way to another commit.
type carried struct {
	kept  *worktree // what the commit leaves alone
	taken *tree     // what it changes
}

func (c carried) size() (files int, bytes int64) {
	files, bytes = c.kept.size()
	more, moreBytes := c.taken.size()
	return files + more, bytes + moreBytes
}

func (c carried) write(ctx context.Context, a *archive) error {
	if err := c.kept.write(ctx, a); err != nil {
		return err
	}
	return c.taken.write(ctx, a)
}

// appendCarriedParts is appendParts for a part that goes to another commit. It
// makes the view's index that of the copy.
func appendCarriedParts(ctx context.Context, parts []*part, one *part, tmp string) ([]*part, error) {
	r := one.repo
	c, err := planCarry(ctx, r, one.start)
	if err != nil {
		return nil, err
	}
	if err := c.check(ctx, r, one.start[:12], tmp); err != nil { // it may have changed since Inspect
		return nil, err
	}
	kept, nested, err := listWorktree(ctx, r, "", one.prefix)
	if err != nil {
		return nil, err
	}
	leaves := func(name string) bool { _, is := c.changed[name]; return is }
	kept.files = slices.DeleteFunc(kept.files, func(f hostFile) bool { return leaves(f.path) })
	nested = slices.DeleteFunc(nested, leaves)
	taken, err := c.tree(ctx, r, one.prefix, one.start)
	if err != nil {
		return nil, err
	}
	one.content = carried{kept, taken}
	if err := r.mergeIndex(ctx, one.start); err != nil {
		return nil, err
	}
	if parts, err = appendNested(ctx, parts, one, nested, tmp); err != nil {
		return nil, err
	}
	return appendSubmodules(ctx, parts, one, taken.entries, tmp)
}

// tree is what the commit has at the paths that it changes, without those that
// a sparse checkout leaves out. What is in it of files that are new in the commit
// is known only to a git newer than the host may have, so they are all there.
func (c *carry) tree(ctx context.Context, r *repository, prefix, start string) (*tree, error) {
	absent, err := r.skipped(ctx)
	if err != nil {
		return nil, err
	}
	t := &tree{repo: r, prefix: prefix, commit: start}
	for name, e := range c.changed {
		if e.mode != "" && !absent[name] {
			t.entries = append(t.entries, e)
		}
	}
	slices.SortFunc(t.entries, func(a, b treeEntry) int { return strings.Compare(a.path, b.path) })
	return t, t.readSizes(ctx)
}

// skipped are the files of the index that a sparse checkout leaves out.
func (r *repository) skipped(ctx context.Context) (map[string]bool, error) {
	if !exists(filepath.Join(r.view.dir, "info/sparse-checkout")) {
		return nil, nil
	}
	out, err := r.git.output(ctx, "ls-files", "-t", "-z")
	if err != nil {
		return nil, err
	}
	absent := make(map[string]bool)
	for _, line := range fields(out) {
		if name, is := strings.CutPrefix(line, "S "); is {
			absent[name] = true
		}
	}
	return absent, nil
}

// readSizes asks for the sizes of a tree's files.
func (t *tree) readSizes(ctx context.Context) error {
	var ids bytes.Buffer
	for _, e := range t.entries {
		if e.mode != modeSubmodule {
			ids.WriteString(e.id + "\n")
		}
	}
	out, err := t.repo.git.filter(ctx, &ids, "cat-file", "--batch-check=%(objectsize)")
	if err != nil {
		return err
	}
	lines := strings.Split(string(out), "\n")
	for i, e := range t.entries {
		if e.mode == modeSubmodule {
			continue
		}
		if t.entries[i].size, err = strconv.ParseInt(lines[0], 10, 64); err != nil {
			return t.repo.lacksContent(t.commit, "of "+e.path)
		}
		lines = lines[1:]
	}
	return nil
}

// mergeIndex takes the view's index to a commit, as git switch does. That the
// working tree allows it was checked (-i: git doesn't look).
func (r *repository) mergeIndex(ctx context.Context, start string) error {
	base, err := r.headTree(ctx)
	if err != nil {
		return err
	}
	_, err = r.inWorktree(ctx, r.git.with(guestStat...), "read-tree", "-i", "-m", base, start)
	return err
}
