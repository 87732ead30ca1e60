package workspace

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

// stateFiles and stateDirs are what git leaves in its directory between the
// commands of a merge, rebase, cherry-pick, revert or bisect.
var (
	stateFiles = []string{
		"MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "MERGE_AUTOSTASH", "AUTO_MERGE", "SQUASH_MSG",
		"CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD",
		"BISECT_LOG", "BISECT_NAMES", "BISECT_START", "BISECT_TERMS", "BISECT_EXPECTED_REV", "BISECT_ANCESTORS_OK",
	}
	stateDirs = []string{"rebase-merge", "rebase-apply", "sequencer"}
)

// writeState copies the state of an unfinished operation and notes the objects
// that it needs.
func (g *gitDir) writeState(ctx context.Context) error {
	if g.start != "" {
		return nil // at another commit, nothing is going on
	}
	names := stateFiles
	for _, dir := range stateDirs {
		files, err := g.stateDir(dir)
		if err != nil {
			return err
		}
		names = append(names[:len(names):len(names)], files...)
	}
	var mentioned bytes.Buffer
	for _, name := range names {
		data, err := readExtra(g.repo.gitDir, name)
		if err != nil {
			return err
		}
		if data == nil {
			continue
		}
		if err := g.write(name, data); err != nil {
			return err
		}
		for word := range strings.FieldsSeq(string(data)) {
			if g.repo.isObjectID(word) {
				mentioned.WriteString(word + "\n")
			}
		}
	}
	if mentioned.Len() == 0 {
		return nil
	}
	// A word that looks like an object may be none, or be gone.
	out, err := g.repo.git.filter(ctx, &mentioned, "cat-file", "--batch-check=%(objectname)")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		if id := strings.TrimSuffix(line, "\n"); g.repo.isObjectID(id) {
			g.tips = append(g.tips, id)
		}
	}
	return nil
}

// stateDir lists the regular files right in a directory of the git directory.
func (g *gitDir) stateDir(dir string) ([]string, error) {
	root, err := os.OpenRoot(g.repo.gitDir)
	if err != nil {
		return nil, fmt.Errorf("open git directory: %w", err)
	}
	defer root.Close()
	if info, err := root.Lstat(dir); err != nil || !info.IsDir() {
		return nil, nil // nothing is going on, or it is a link to elsewhere
	}
	entries, err := fs.ReadDir(root.FS(), dir)
	if err != nil {
		return nil, fmt.Errorf("read git directory: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, path.Join(dir, e.Name()))
		}
	}
	return names, nil
}
