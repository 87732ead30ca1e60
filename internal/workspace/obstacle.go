package workspace

import (
	"context"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"banger/internal/api"
	"banger/internal/guard"
)

// git opens the files that it takes its instructions from wherever it meets
// them in a working tree, and would wait for ever where one is a named pipe. To
// look through the whole tree beforehand, with all that is ignored, would cost
// more than it is worth; so that is done when git takes longer than it mostly
// does.
const patience = 2 * time.Second

// inWorktree runs git, which reads files of the working tree, and returns what
// it prints.
func (r *repository) inWorktree(ctx context.Context, g git, args ...string) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	search := time.AfterFunc(patience, guard.Func("search a working tree", func() {
		if err := findObstacle(ctx, r.top); err != nil {
			cancel(err)
		}
	}))
	defer search.Stop()
	return g.output(ctx, args...)
}

// instructions are the files of a working tree that git takes instructions
// from.
var instructions = []string{".git", ".gitignore", ".gitattributes", ".gitmodules"}

// findObstacle looks for something that git could be waiting at.
func findObstacle(ctx context.Context, top string) error {
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return ctx.Err() // what can't be looked at is no obstacle
		}
		mode := d.Type()
		if mode.IsRegular() || mode.IsDir() || mode&fs.ModeSymlink != 0 {
			return nil
		}
		if !slices.Contains(instructions, d.Name()) && !isInGitDir(path) {
			return nil
		}
		return api.Errorf(api.CodeInvalid, "%s is %s where git expects a file", path, kindOf(mode)).
			WithHint("remove it, or copy another directory")
	})
}

// isInGitDir reports whether one of the directories above path is a .git.
func isInGitDir(path string) bool {
	for dir := filepath.Dir(path); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if filepath.Base(dir) == ".git" {
			return true
		}
	}
	return false
}
