package workspace

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/guard"
	"banger/internal/regularfile"
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
var instructions = []string{".gitignore", ".gitattributes", ".gitmodules"}

// findObstacle looks for something that git could be waiting at. Of the
// repository's own git directory git sees the view only.
func findObstacle(ctx context.Context, top string) error {
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return ctx.Err() // what can't be looked at is no obstacle
		}
		switch {
		case d.Name() == ".git":
			if dir := filepath.Dir(path); dir != top {
				err = nestedObstacle(dir)
			}
			if err == nil && d.IsDir() {
				return fs.SkipDir
			}
			return err
		case slices.Contains(instructions, d.Name()) && d.Type()&fs.ModeSymlink == 0:
			return obstacleAt(path)
		}
		return nil
	})
}

// nestedObstacle looks at what git opens to find out whether a directory is a
// repository and which commit it is at. Like git, it follows links and .git
// files to wherever they lead.
func nestedObstacle(dir string) error {
	gitDir := filepath.Join(dir, ".git")
	if err := obstacleAt(gitDir); err != nil {
		return err
	}
	if data, err := regularfile.Read(gitDir, 0, maxSmallFile); err == nil {
		path, err := parseGitFile(data)
		if err != nil {
			return nil // no repository for git either
		}
		gitDir = absolute(dir, path)
	}
	dirs := []string{gitDir}
	if err := obstacleAt(filepath.Join(gitDir, "commondir")); err != nil {
		return err
	}
	if data, err := regularfile.Read(filepath.Join(gitDir, "commondir"), 0, maxSmallFile); err == nil {
		if path, err := parsePathLine(data); err == nil {
			dirs = append(dirs, absolute(gitDir, path))
		}
	}
	names := append([]string{"config", "config.worktree", "packed-refs"}, headNames(dirs)...)
	for _, dir := range dirs {
		for _, name := range names {
			if err := obstacleAt(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// headNames returns HEAD and the refs that it leads to. dirs are where refs
// are looked for.
func headNames(dirs []string) []string {
	names := []string{"HEAD"}
	for range 5 { // git follows no more either
		for _, dir := range dirs {
			data, err := regularfile.Read(filepath.Join(dir, names[len(names)-1]), 0, maxSmallFile)
			if err != nil {
				continue
			}
			target, ok := strings.CutPrefix(string(data), "ref:")
			if !ok {
				return names
			}
			names = append(names, strings.TrimSpace(target))
			break
		}
	}
	return names
}

// obstacleAt returns an error if path leads to what can keep one waiting who
// opens it.
func obstacleAt(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Mode().IsRegular() || info.IsDir() {
		return nil
	}
	return api.Errorf(api.CodeInvalid, "%s is %s where git expects a file", path, kindOf(info.Mode())).
		WithHint("remove it, or copy another directory")
}
