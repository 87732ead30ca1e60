package workspace

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// gitDir makes the .git directory of a copy in a temporary directory of the
// host. It is made from nothing; see gitrepository-layout(5) for its files.
type gitDir struct {
	repo   *repository
	dir    string     // the directory to fill
	start  string     // commit of HEAD; "" for that of the host
	clean  bool       // a clean checkout of start
	branch string     // new branch, without refs/heads/; "" for none
	git    git        // runs in dir
	big    int64      // see bigHistory
	tips   []string   // objects that are needed beside those of refs and index
	packs  []*os.File // of the repository's, to be sent beside what is in dir
}

// newGitDir is to fill dir.
func newGitDir(p *part, dir string) *gitDir {
	return &gitDir{
		repo: p.repo, dir: dir, start: p.start, clean: p.clean, branch: p.branch, big: p.big,
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
		g.pack, g.returnObjects, g.writeGuestConfig,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (g *gitDir) write(name string, data []byte) error { return writeFile(g.dir, name, data) }

// writeConfig writes a configuration without a word about remotes that have
// what is missing, so that git doesn't ask them meanwhile.
func (g *gitDir) writeConfig(context.Context) error {
	return g.write("config", g.repo.config(configOfBuild))
}

func (g *gitDir) writeGuestConfig(context.Context) error {
	if g.clean {
		return g.write("config", g.repo.config(configOfClean))
	}
	return g.write("config", g.repo.config(configOfCopy))
}

func (g *gitDir) writeShallow(context.Context) error {
	if !g.repo.isShallow() {
		return nil
	}
	return copyExtra(g.repo.view.common, "shallow", g.dir)
}

// writeInfo copies what git knows of files apart from the tree.
func (g *gitDir) writeInfo(context.Context) error {
	own, err := readExtra(g.repo.view.common, "info/exclude")
	if err != nil {
		return err
	}
	if err := g.write("info/exclude", append(g.repo.globalExcludes(), own...)); err != nil {
		return err
	}
	if err := copyExtra(g.repo.view.common, "info/attributes", g.dir); err != nil || g.clean {
		return err
	}
	return copyExtra(g.repo.view.dir, "info/sparse-checkout", g.dir)
}

// globalExcludes returns the user's own ignore patterns, which the guest
// doesn't have: without them, files that were left out would be reported as
// untracked once they are made again.
func (r *repository) globalExcludes() []byte {
	if r.hasOwnPatterns("core.excludesfile") {
		return nil // git takes those instead
	}
	path := expandHome(lastSetting(r.user, "core.excludesfile"))
	if path == "" {
		path = userPatternsDefault()
	}
	data := readUsersFile(path)
	if len(data) == 0 {
		return nil
	}
	if data[len(data)-1] != '\n' {
		data = append(data, '\n')
	}
	return data
}

// guestStat has git compare of files what it will in the guest (see config), for
// an index leaves out files that differ by inode or owner.
var guestStat = []string{
	"GIT_CONFIG_COUNT=2",
	"GIT_CONFIG_KEY_0=core.checkStat", "GIT_CONFIG_VALUE_0=minimal",
	"GIT_CONFIG_KEY_1=core.trustctime", "GIT_CONFIG_VALUE_1=false",
}

// writeIndex makes the index: a copy of the view's, or that of a clean checkout.
func (g *gitDir) writeIndex(ctx context.Context) error {
	if g.clean {
		_, err := g.git.output(ctx, "read-tree", g.start)
		return err
	}
	root, err := os.OpenRoot(g.repo.view.dir)
	if err != nil {
		return fmt.Errorf("copy git index: %w", err)
	}
	defer root.Close()
	// git compares the contents of files that are as new as the index, because
	// their size and time alone don't tell whether they changed after it was
	// written. So its time is kept.
	if err := copyEssential(root, "index", g.dir, maxIndexFile); err != nil {
		return err
	}
	path := filepath.Join(g.dir, "index")
	if !exists(path) {
		return nil
	}
	// Written anew, it is one file, without what fits this machine only. git
	// marks the files that it couldn't tell from modified ones by size and
	// time.
	index := g.repo.git.with(guestStat...).with("GIT_INDEX_FILE=" + path)
	_, err = g.repo.inWorktree(ctx, index, "update-index",
		"--no-split-index", "--no-untracked-cache", "--no-fsmonitor", "--force-write-index")
	return err
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
