package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const (
	// bigHistory is the size in bytes of pack indexes from which on packs are
	// sent as they are. It stands for 100,000 objects with SHA-1 names, which
	// take a second or more to find; copying them takes a fraction of that.
	bigHistory = 100_000 * 28
	// maxPacks bounds the open files.
	maxPacks = 64
)

// reusePacks has the repository's packs sent as they are, and packs only what is
// not in them yet. It reports false, having done nothing, where that doesn't pay
// or isn't safe, or if there is a sign that they hold unreachable objects.
//
// The packs are opened now, as a git gc may remove them at any time.
func (g *gitDir) reusePacks(ctx context.Context) (reused bool, err error) {
	if len(g.repo.objects) != 1 {
		return false, nil // what is needed may be a small part of another's packs
	}
	objects := g.repo.objects[0]
	names, err := packNames(objects)
	if err != nil || len(names) > maxPacks || !g.isBig(objects, names) {
		return false, err
	}
	if dropped, err := g.packsHoldDropped(ctx, objects, names); dropped || err != nil {
		return false, err
	}
	defer func() {
		if !reused {
			g.close()
		}
	}()
	for _, name := range names {
		for _, ext := range []string{".pack", ".idx"} {
			f, err := os.OpenFile(filepath.Join(objects, "pack", name+ext), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
			if err != nil {
				return false, nil // removed meanwhile, or a link
			}
			g.packs = append(g.packs, f)
		}
	}
	if err := g.packReachable(ctx, "--unpacked", "--incremental"); err != nil {
		return false, err
	}
	// Objects that went into a new pack meanwhile are in none of ours.
	after, err := packNames(objects)
	if err != nil {
		return false, err
	}
	return slices.Equal(names, after), nil
}

// packNames lists the packs of an object directory without their extensions.
func packNames(objects string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(objects, "pack"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list packs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".idx"); ok && strings.HasPrefix(name, "pack-") {
			names = append(names, name)
		}
	}
	return names, nil
}

func (g *gitDir) isBig(objects string, names []string) bool {
	var size int64
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(objects, "pack", name+".idx")); err == nil {
			size += info.Size()
		}
	}
	return size >= g.big
}

// packsHoldDropped reports whether anything tells that there are objects in the
// packs that the guest's repository doesn't need, such as a secret that was
// taken out of the history again: a pack of what git found to be unreachable,
// or a commit that only reflogs and the like still know. What has left no such
// trace, such as a branch that was fetched and is gone at its origin, isn't
// noticed.
func (g *gitDir) packsHoldDropped(ctx context.Context, objects string, names []string) (bool, error) {
	for _, name := range names {
		if exists(filepath.Join(objects, "pack", name+".mtimes")) {
			return true, nil
		}
	}
	if g.repo.ownSetting(refStorageSetting) == "reftable" {
		return true, nil // its reflogs aren't files
	}
	former, err := g.repo.formerCommits()
	if err != nil {
		return false, err
	}
	dropped, err := g.unneeded(ctx, former)
	var failed *gitError
	if errors.As(err, &failed) {
		return true, nil // a part of what was dropped is gone already
	}
	if err != nil || dropped == 0 {
		return false, err
	}
	// What isn't packed isn't sent.
	loose, err := g.unneeded(ctx, former, "--unpacked")
	return loose != dropped, err
}

// unneeded counts the commits that lead to those named by ids, of which some
// may be gone, and that the new repository doesn't need.
func (g *gitDir) unneeded(ctx context.Context, ids []string, limits ...string) (int, error) {
	args := slices.Concat([]string{"rev-list", "--count", "--ignore-missing", "--stdin"}, limits, []string{"--not", "--all", "--reflog"}, g.tips)
	out, err := g.git.filter(ctx, strings.NewReader(strings.Join(append(ids, ""), "\n")), args...)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return 0, fmt.Errorf("git rev-list: unexpected count %q", out)
	}
	return n, nil
}

// formerCommits lists what the reflogs, HEAD and its like name, in all working
// trees of the repository.
func (r *repository) formerCommits() ([]string, error) {
	ids := make(map[string]bool)
	note := func(name string, e fs.DirEntry) error {
		base, inLogs := path.Base(name), slices.Contains(strings.Split(name, "/"), "logs")
		if !e.Type().IsRegular() || base != "HEAD" && !strings.HasSuffix(base, "_HEAD") && !inLogs {
			return nil
		}
		data, err := readExtra(r.commonDir, name)
		for word := range strings.FieldsSeq(string(data)) {
			if r.isObjectID(word) && strings.Trim(word, "0") != "" {
				ids[word] = true
			}
		}
		return err
	}
	entries, err := os.ReadDir(r.commonDir)
	if err != nil {
		return nil, fmt.Errorf("read git directory: %w", err)
	}
	for _, e := range entries {
		if err := note(e.Name(), e); err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{"logs", "worktrees"} {
		if err := walkFiles(r.commonDir, dir, note); err != nil {
			return nil, err
		}
	}
	return slices.Collect(maps.Keys(ids)), nil
}
