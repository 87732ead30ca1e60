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

	"banger/internal/api"
)

// repository is a git repository on the host with a working tree.
type repository struct {
	git       git    // runs at the top of the working tree
	top       string // the working tree
	gitDir    string // HEAD, index and state; of a linked worktree its own
	commonDir string // objects, refs and configuration
	format    string // hash of the object names, "sha1" or "sha256"
	settings  []setting
}

// openRepository finds the repository that dir is in.
func openRepository(ctx context.Context, dir string) (*repository, error) {
	g := git{dir: dir}
	top, err := g.line(ctx, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, explainOpen(dir, err)
	}
	if err := checkTop(dir, top); err != nil {
		return nil, err
	}
	r := &repository{git: git{dir: top}, top: top}
	for _, dir := range []struct {
		option string
		path   *string
	}{{"--git-dir", &r.gitDir}, {"--git-common-dir", &r.commonDir}} {
		path, err := r.git.line(ctx, "rev-parse", dir.option)
		if err != nil {
			return nil, err
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(top, path)
		}
		*dir.path = path
	}
	if r.format, err = r.git.line(ctx, "rev-parse", "--show-object-format"); err != nil {
		return nil, err
	}
	if r.settings, err = readSettings(ctx, r.git); err != nil {
		return nil, err
	}
	return r, nil
}

// openNested opens the repository whose working tree begins at dir.
func openNested(ctx context.Context, dir string) (*repository, error) {
	r, err := openRepository(ctx, dir)
	if err != nil {
		return nil, err
	}
	if same, err := sameFile(r.top, dir); err != nil || !same {
		return nil, api.Errorf(api.CodeInvalid, "%s has a .git that git doesn't take for a repository", dir).
			WithHint("repair it, for instance by `git submodule update --init`, or remove it")
	}
	return r, nil
}

// explainOpen gives the usual reasons why git finds no working tree their own
// words.
func explainOpen(dir string, err error) error {
	var failed *gitError
	if !errors.As(err, &failed) {
		return err
	}
	switch {
	case strings.Contains(failed.stderr, "dubious ownership"):
		return api.Errorf(api.CodeInvalid, "git doesn't trust %s, because it belongs to another user", dir).
			WithHint("git config --global --add safe.directory %s", dir)
	case strings.Contains(failed.stderr, "must be run in a work tree"):
		return api.Errorf(api.CodeInvalid, "%s is a bare repository or inside of one: there is no working tree to copy", dir).
			WithHint("git clone it and use the clone")
	case strings.Contains(failed.stderr, "not a git repository"):
		return api.Errorf(api.CodeInvalid, "%s is not a git repository", dir).
			WithHint("run `git init` and make a first commit there")
	}
	return api.Errorf(api.CodeInvalid, "%s can't be read as a git repository: %v", dir, err)
}

// checkTop refuses a working tree that isn't around dir or has no .git: by
// core.worktree the configuration of a repository can name any directory, and
// all that is in it would be copied.
func checkTop(dir, top string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("resolve %s: %w", dir, err)
	}
	rel, err := filepath.Rel(top, real)
	inside := err == nil && filepath.IsLocal(rel)
	if _, err := os.Lstat(filepath.Join(top, ".git")); err != nil || !inside {
		return api.Errorf(api.CodeInvalid, "the repository at %s has its working tree elsewhere, at %s", dir, top).
			WithHint("unset core.worktree, or use a clone")
	}
	return nil
}

// objectIDLen is the number of hex digits in an object name.
func (r *repository) objectIDLen() int {
	if r.format == "sha256" {
		return 64
	}
	return 40
}

// isShallow reports whether the history is cut off somewhere.
func (r *repository) isShallow() bool {
	info, err := os.Stat(filepath.Join(r.commonDir, "shallow"))
	return err == nil && info.Size() > 0
}

// isPartial reports whether objects were left out when the repository was
// cloned, to be fetched from a remote when they are needed.
func (r *repository) isPartial() bool {
	for _, s := range r.settings {
		if s.key() == "extensions.partialclone" || s.section == "remote" && s.name == "promisor" && isTrue(s.value) {
			return true
		}
	}
	return false
}

// commit returns the name of the commit that rev means; "" if there is none.
func (r *repository) commit(ctx context.Context, rev string) (string, error) {
	if strings.HasPrefix(rev, "-") {
		return "", nil // an option to git; no revision begins like that
	}
	id, err := r.git.line(ctx, "rev-parse", "--verify", "--quiet", rev+"^{commit}")
	var failed *gitError
	if errors.As(err, &failed) {
		return "", nil
	}
	return id, err
}

// branch returns the full name of the ref that HEAD stands for; "" if HEAD is
// detached.
func (r *repository) branch(ctx context.Context) (string, error) {
	ref, err := r.git.line(ctx, "symbolic-ref", "--quiet", "HEAD")
	if exitedWith(err, 1) {
		return "", nil
	}
	return ref, err
}

// readInside reads a regular file below dir, never one that symbolic links
// lead to outside of it: what is in a repository's own directory may come from
// strangers. It returns nil for a file that is missing or no such file.
func readInside(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open git directory: %w", err)
	}
	defer root.Close()
	info, err := root.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil
	}
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open git file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("read git file: %w", err)
	}
	return data, nil
}

func sameFile(a, b string) (bool, error) {
	ia, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	ib, err := os.Stat(b)
	if err != nil {
		return false, err
	}
	return os.SameFile(ia, ib), nil
}
