package workspace

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// packCommand makes one pack quickly. Objects that are in packs already are
// taken over as they are; the others are compressed lightly and not compared
// with each other, as the pack travels no further than this machine.
func (g *gitDir) packCommand(selection ...string) []string {
	args := []string{"pack-objects", "-q", "--delta-base-offset", "--non-empty", "--window=0"}
	return append(append(args, selection...), filepath.Join(g.dir, "objects/pack/pack"))
}

// alternates is the file of a git directory that names further directories of
// objects.
const alternates = "objects/info/alternates"

// borrowObjects lets the new repository use the host's objects until it has
// its own.
func (g *gitDir) borrowObjects(context.Context) error {
	return g.write(alternates, g.repo.view.alternates)
}

func (g *gitDir) returnObjects(context.Context) error {
	if err := os.Remove(filepath.Join(g.dir, alternates)); err != nil {
		return fmt.Errorf("unlink objects: %w", err)
	}
	return nil
}

// pack writes all objects that the new repository needs into one pack. git
// does that in the new repository, so that exactly its refs, its index and its
// stash count, and no setting of the host's repository does.
func (g *gitDir) pack(ctx context.Context) error {
	if g.repo.isPartial() {
		return g.packPartial(ctx)
	}
	if reused, err := g.reusePacks(ctx); reused || err != nil {
		return err
	}
	return g.packReachable(ctx)
}

func (g *gitDir) packReachable(ctx context.Context, limits ...string) error {
	tips := strings.NewReader(strings.Join(append(g.tips, ""), "\n"))
	selection := append([]string{"--all", "--reflog", "--indexed-objects"}, limits...)
	if _, err := g.git.filter(ctx, tips, g.packCommand(selection...)...); err != nil {
		return fmt.Errorf("pack the history: %w", err)
	}
	return nil
}

// packPartial packs what is there of what the new repository needs: in a
// partial clone, some of it is missing. The pack is marked as one of a promisor
// remote, from where git may fetch what it refers to.
func (g *gitDir) packPartial(ctx context.Context) error {
	selection := append([]string{"rev-list", "--objects", "--missing=allow-any", "--all", "--reflog", "--indexed-objects"}, g.tips...)
	list := g.git.process(ctx, selection...)
	ids, err := list.StdoutPipe()
	if err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	if err := list.Start(); err != nil {
		return list.explain(err)
	}
	name, packErr := g.git.filter(ctx, ids, g.packCommand()...)
	if packErr != nil {
		_ = list.Process.Kill() // nobody reads its output any more
	}
	listErr := list.explain(list.Wait())
	if packErr != nil {
		return fmt.Errorf("pack the history: %w", packErr)
	}
	if listErr != nil {
		return listErr
	}
	if name = bytes.TrimSpace(name); len(name) == 0 {
		return nil
	}
	return g.write("objects/pack/pack-"+string(name)+".promisor", nil)
}
