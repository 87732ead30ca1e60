package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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

// reusePacks has the repository's packs sent as they are, with whatever
// unreachable objects are in them, and packs only what is not in them yet. It
// reports false, having done nothing, where that doesn't pay or isn't safe.
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
