package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// repository is a git repository on the host with a working tree.
type repository struct {
	location
	git      git // works with the view, at the top of the working tree
	view     view
	format   string    // hash of the object names, "sha1" or "sha256"
	user     []setting // of the user's and the system's configuration
	settings []setting // those, and then the repository's own
	objects  []string  // directories of objects that may be used
	patterns []ownPatterns
	notes    []string // what the user should know of it
}

// openRepository opens the repository that dir is in, or else dir as a plain
// directory. What it makes below tmp has to stay while the repository is used.
func openRepository(ctx context.Context, dir, tmp string) (*repository, error) {
	at, err := locate(dir)
	if errors.Is(err, errNoRepository) {
		at, err = locatePlain(dir)
	}
	if err != nil {
		return nil, err
	}
	return openLocation(ctx, at, tmp)
}

func openLocation(ctx context.Context, at location, tmp string) (*repository, error) {
	tmp, err := os.MkdirTemp(tmp, "repository-")
	if err != nil {
		return nil, fmt.Errorf("create a temporary directory: %w", err)
	}
	r := &repository{location: at}
	if err := r.checkHead(); err != nil {
		return nil, err
	}
	if err := r.readSettings(ctx, tmp); err != nil {
		return nil, err
	}
	if !r.isPlain() {
		if err := r.checkTrust(); err != nil {
			return nil, err
		}
		r.readOwnPatterns()
		if err := r.noteFilters(); err != nil {
			return nil, err
		}
	}
	if err := r.makeView(tmp); err != nil {
		return nil, err
	}
	r.git = r.view.git(r.top)
	return r, nil
}

// checkHead refuses a HEAD that isn't a file, before git looks at it.
func (r *repository) checkHead() error {
	if r.isPlain() {
		return nil
	}
	root, err := os.OpenRoot(r.gitDir)
	if err != nil {
		return fmt.Errorf("open git directory: %w", err)
	}
	defer root.Close()
	info, err := root.Lstat("HEAD")
	if err != nil {
		return notARepository(r.top) // removed meanwhile
	}
	_, err = readRef(root, "HEAD", info.Mode())
	return err
}

// openNested opens the repository whose working tree begins at dir.
func openNested(ctx context.Context, dir, tmp string) (*repository, error) {
	at, found, err := locateAt(dir)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, notARepository(dir)
	}
	return openLocation(ctx, at, tmp)
}

// isPlain reports whether it is no repository but a directory to copy.
func (r *repository) isPlain() bool { return r.gitDir == "" }

// objectIDLen is the number of hex digits in an object name.
func (r *repository) objectIDLen() int {
	if r.format == "sha256" {
		return 64
	}
	return 40
}

// isShallow reports whether the history is cut off somewhere.
func (r *repository) isShallow() bool {
	info, err := os.Stat(filepath.Join(r.view.common, "shallow"))
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
