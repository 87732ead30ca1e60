package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// gitDir makes the .git directory of a copy in a temporary directory of the
// host. It is made from nothing; see gitrepository-layout(5) for its files.
type gitDir struct {
	repo   *repository
	dir    string     // the directory to fill
	start  string     // commit of a clean checkout; "" for the working tree as it is
	branch string     // new branch, without refs/heads/; "" for none
	git    git        // runs in dir
	big    int64      // see bigHistory
	tips   []string   // objects that are needed beside those of refs and index
	packs  []*os.File // of the repository's, to be sent beside what is in dir
}

// newGitDir is to fill dir, whose parent it may use too.
func newGitDir(p *part, dir string) *gitDir {
	return &gitDir{
		repo: p.repo, dir: dir, start: p.start, branch: p.branch, big: p.big,
		git: git{dir: dir}.with("GIT_DIR=" + dir),
	}
}

// close lets go of files of the host's repository.
func (g *gitDir) close() {
	for _, f := range g.packs {
		_ = f.Close()
	}
	g.packs = nil
}

// build makes the directory.
func (g *gitDir) build(ctx context.Context) error {
	for _, d := range []string{"info", "logs/refs", "objects/info", "objects/pack", "refs/heads", "refs/tags"} {
		if err := os.MkdirAll(filepath.Join(g.dir, d), 0o755); err != nil {
			return fmt.Errorf("create git directory: %w", err)
		}
	}
	steps := []func(context.Context) error{
		g.writeConfig, g.writeRefs, g.writeShallow, g.borrowObjects, g.writeInfo, g.writeState, g.writeIndex,
		g.pack, g.returnObjects,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (g *gitDir) write(name string, data []byte) error {
	path := filepath.Join(g.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("create git directory: %w", err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("write git directory: %w", err)
	}
	return nil
}

// copy copies a file of the repository's, if there is one.
func (g *gitDir) copy(from, name string) error {
	data, err := readInside(from, name)
	if err != nil || data == nil {
		return err
	}
	return g.write(name, data)
}

func (g *gitDir) writeConfig(context.Context) error {
	return g.write("config", g.repo.guestConfig(g.start != ""))
}

func (g *gitDir) writeShallow(context.Context) error {
	if !g.repo.isShallow() {
		return nil
	}
	return g.copy(g.repo.commonDir, "shallow")
}

// writeInfo copies what git knows of files apart from the tree.
func (g *gitDir) writeInfo(ctx context.Context) error {
	own, err := readInside(g.repo.commonDir, "info/exclude")
	if err != nil {
		return err
	}
	global, err := globalExcludes(ctx, g.repo.git)
	if err != nil {
		return err
	}
	if err := g.write("info/exclude", append(global, own...)); err != nil {
		return err
	}
	if err := g.copy(g.repo.commonDir, "info/attributes"); err != nil || g.start != "" {
		return err
	}
	return g.copy(g.repo.gitDir, "info/sparse-checkout")
}

// globalExcludes returns the user's own ignore patterns, which the guest
// doesn't have: without them, files that were left out would be reported as
// untracked once they are made again. A repository's setting isn't believed,
// as it could name any file.
func globalExcludes(ctx context.Context, g git) ([]byte, error) {
	path, err := g.line(ctx, "config", "--global", "--includes", "--type=path", "--get", "core.excludesFile")
	var unset *gitError
	switch {
	case errors.As(err, &unset):
		path = ""
	case err != nil:
		return nil, err
	}
	if path == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil, nil // no home, no such file
		}
		path = filepath.Join(dir, "git", "ignore")
	}
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		return nil, nil // git goes on without it as well
	}
	if data[len(data)-1] != '\n' {
		data = append(data, '\n')
	}
	return data, nil
}

// writeIndex makes the index: a copy of the repository's, or that of a clean
// checkout.
func (g *gitDir) writeIndex(ctx context.Context) error {
	if g.start != "" {
		_, err := g.git.output(ctx, "read-tree", g.start)
		return err
	}
	path := filepath.Join(g.dir, "index")
	copied, err := copyIndex(filepath.Join(g.repo.gitDir, "index"), path)
	if err != nil || !copied {
		return err
	}
	// Written anew, it is one file, without what fits this machine only. git
	// marks the files that it couldn't tell from modified ones by size and
	// time. It must compare what git in the guest will (guestConfig), for it
	// leaves out files that differ by inode or owner.
	index := g.repo.git.with("GIT_INDEX_FILE="+path, "GIT_CONFIG_COUNT=2",
		"GIT_CONFIG_KEY_0=core.checkStat", "GIT_CONFIG_VALUE_0=minimal",
		"GIT_CONFIG_KEY_1=core.trustctime", "GIT_CONFIG_VALUE_1=false")
	_, err = index.output(ctx, "update-index",
		"--no-split-index", "--no-untracked-cache", "--no-fsmonitor", "--force-write-index")
	return err
}

// copyIndex copies an index with its modification time: git compares the
// contents of files that are as new as the index, because their size and time
// alone don't tell whether they changed after it was written. It reports
// whether there was an index.
func copyIndex(from, to string) (bool, error) {
	src, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open git index: %w", err)
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return false, fmt.Errorf("open git index: %w", err)
	}
	dst, err := os.Create(to)
	if err != nil {
		return false, fmt.Errorf("copy git index: %w", err)
	}
	_, err = io.Copy(dst, src)
	if err := errors.Join(err, dst.Close()); err != nil {
		return false, fmt.Errorf("copy git index: %w", err)
	}
	if err := os.Chtimes(to, info.ModTime(), info.ModTime()); err != nil {
		return false, fmt.Errorf("copy git index: %w", err)
	}
	return true, nil
}

// head is the content of HEAD.
func (g *gitDir) head(ctx context.Context) (string, error) {
	switch {
	case g.branch != "":
		return "ref: " + headsPrefix + g.branch, nil
	case g.start != "":
		return g.start, nil
	}
	ref, err := g.repo.branch(ctx)
	if err != nil {
		return "", err
	}
	if ref != "" {
		return "ref: " + ref, nil
	}
	return g.repo.git.line(ctx, "rev-parse", "--verify", "HEAD")
}

// isObjectID reports whether s could name an object of the repository.
func (r *repository) isObjectID(s string) bool {
	return len(s) == r.objectIDLen() && strings.Trim(s, "0123456789abcdef") == ""
}
