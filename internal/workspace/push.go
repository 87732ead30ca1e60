package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"banger/internal/api"
	"banger/internal/guard"
)

// content is what a repository has checked out.
type content interface {
	size() (files int, bytes int64)
	write(ctx context.Context, a *archive) error
}

// part is one repository of a workspace: that at the top, or a nested one.
type part struct {
	repo    *repository
	below   string // the directory of it that is copied, without a history; "" for all of it
	prefix  string // its path in the workspace; "" for the top
	start   string // commit of the copy's HEAD; "" for that of the host
	clean   bool   // a clean checkout of start
	branch  string // new branch; "" for none
	big     int64  // see bigHistory
	content content
	gitDir  *gitDir // its new .git directory
}

// Push copies the workspace into a guest. extract has to unpack a tar stream
// below a directory of the guest, replacing files that exist, and to set the
// modification times of files and symbolic links: by them git in the guest
// knows, without reading them, which files are unchanged. The stream has the
// directory's content, so the directory itself keeps its owner and mode.
//
// Progress is reported as phase "workspace" in bytes; the total grows once the
// size of the packed history is known.
func (p *Plan) Push(ctx context.Context, extract func(ctx context.Context, path string, tar io.Reader) error, pf api.ProgressFunc) error {
	m := newMeter(pf, "copying "+p.info.HostPath)
	if err := p.push(ctx, extract, m); err != nil {
		var failed *gitError
		if errors.As(err, &failed) {
			return api.Errorf(api.CodeHost, "copy %s: %v", p.info.HostPath, err).
				WithHint("see what `git fsck` and `git status` say there")
		}
		return err
	}
	m.finish()
	return nil
}

func (p *Plan) push(ctx context.Context, extract func(context.Context, string, io.Reader) error, m *meter) error {
	tmp, remove, err := makeTemp()
	if err != nil {
		return err
	}
	defer remove()
	parts, err := p.parts(ctx, tmp)
	if err != nil {
		return err
	}
	for _, part := range parts {
		m.expect(part.content.size())
	}
	defer func() {
		for _, one := range parts {
			if one.gitDir != nil {
				one.gitDir.close()
			}
		}
	}()

	return transfer(ctx, parts, tmp, m, func(ctx context.Context, tar io.Reader) error {
		return extract(ctx, p.info.GuestPath, tar)
	})
}

// transfer packs the histories while the files are on their way, and then
// sends the histories too.
func transfer(ctx context.Context, parts []*part, tmp string, m *meter, extract func(context.Context, io.Reader) error) error {
	group, ctx := errgroup.WithContext(ctx)
	packed := make(chan error, 1)
	group.Go(guard.ErrFunc("pack a history", func() error {
		err := buildGitDirs(ctx, parts, tmp)
		packed <- err
		return err
	}))
	r, w := io.Pipe()
	var extractErr error
	// Each end of the pipe has to learn of the other's end, panic or not.
	group.Go(guard.ErrFunc("send a workspace", func() error {
		if extractErr = guard.Run("send a workspace", func() error { return extract(ctx, r) }); extractErr != nil {
			extractErr = fmt.Errorf("unpack the workspace in the guest: %w", extractErr)
			r.CloseWithError(extractErr)
			return extractErr
		}
		_, err := io.Copy(io.Discard, r) // the padding after the stream's end
		return err
	}))
	var writeErr error
	group.Go(guard.ErrFunc("read a workspace", func() error {
		writeErr = guard.Run("read a workspace", func() error { return writeParts(ctx, w, parts, m, packed) })
		w.CloseWithError(writeErr)
		return writeErr
	}))
	err := group.Wait()
	// Each end of the pipe fails with the other's error; the user is shown it
	// as it was at first.
	switch {
	case extractErr != nil && errors.Is(writeErr, extractErr):
		return extractErr
	case writeErr != nil:
		return writeErr
	}
	return err
}

// parts finds all repositories of the workspace. They use tmp.
func (p *Plan) parts(ctx context.Context, tmp string) ([]*part, error) {
	repo, below, err := p.open(ctx, p.info.HostPath, tmp)
	if err != nil {
		return nil, err
	}
	return appendParts(ctx, nil, &part{repo: repo, below: below, start: p.start, clean: p.clean, branch: p.branch, big: p.big}, tmp)
}

// appendParts lists the content of a repository and of those nested in it.
func appendParts(ctx context.Context, parts []*part, one *part, tmp string) ([]*part, error) {
	parts = append(parts, one)
	switch {
	case one.clean:
		return appendCleanParts(ctx, parts, one, tmp)
	case one.start != "":
		return appendCarriedParts(ctx, parts, one, tmp)
	}
	files, nested, err := listWorktree(ctx, one.repo, one.below, one.prefix)
	if err != nil {
		return nil, err
	}
	one.content = files
	return appendNested(ctx, parts, one, nested, tmp)
}

// appendNested adds repositories in a working tree, as they are.
func appendNested(ctx context.Context, parts []*part, one *part, nested []string, tmp string) ([]*part, error) {
	for _, dir := range nested {
		repo, err := openNested(ctx, filepath.Join(one.repo.top, one.below, dir), tmp)
		if err != nil {
			return nil, err
		}
		if parts, err = appendParts(ctx, parts, &part{repo: repo, prefix: path.Join(one.prefix, dir), big: one.big}, tmp); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// appendCleanParts is appendParts for a clean checkout.
func appendCleanParts(ctx context.Context, parts []*part, one *part, tmp string) ([]*part, error) {
	t, err := listTree(ctx, one.repo, one.prefix, one.start)
	if err != nil {
		return nil, err
	}
	one.content = t
	return appendSubmodules(ctx, parts, one, t.entries, tmp)
}

// appendSubmodules adds clean checkouts of those submodules that the host has at
// the same place, if they have the commit.
func appendSubmodules(ctx context.Context, parts []*part, one *part, entries []treeEntry, tmp string) ([]*part, error) {
	for _, e := range entries {
		dir := filepath.Join(one.repo.top, e.path)
		if e.mode != modeSubmodule || !exists(filepath.Join(dir, ".git")) {
			continue
		}
		repo, err := openNested(ctx, dir, tmp)
		if err != nil {
			return nil, err
		}
		commit, err := repo.commit(ctx, e.id)
		if err != nil {
			return nil, err
		}
		if commit == "" {
			continue
		}
		sub := &part{repo: repo, prefix: path.Join(one.prefix, e.path), start: commit, clean: true, big: one.big}
		if parts, err = appendParts(ctx, parts, sub, tmp); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// buildGitDirs makes the .git directories of all parts.
func buildGitDirs(ctx context.Context, parts []*part, tmp string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for i, one := range parts {
		if one.repo.isPlain() || one.below != "" {
			continue
		}
		one.gitDir = newGitDir(one, filepath.Join(tmp, fmt.Sprint(i), "git"))
		group.Go(guard.ErrFunc("pack a history", func() error { return one.gitDir.build(ctx) }))
	}
	return group.Wait()
}

// writeParts sends all files, and then the .git directories. That order has a
// further reason: as long as the copy is incomplete, it is no repository.
func writeParts(ctx context.Context, w io.Writer, parts []*part, m *meter, packed <-chan error) error {
	a := newArchive(w, m)
	for _, one := range parts {
		if err := one.content.write(ctx, a); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-packed:
		if err != nil {
			return err
		}
	}
	for _, one := range parts {
		if one.gitDir == nil {
			continue
		}
		if err := addGitDir(a, one, m); err != nil {
			return err
		}
	}
	return a.close()
}

// addGitDir sends a .git directory.
func addGitDir(a *archive, one *part, m *meter) error {
	now := time.Now()
	err := filepath.WalkDir(one.gitDir.dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read packed history: %w", err)
		}
		rel, err := filepath.Rel(one.gitDir.dir, file)
		if err != nil {
			return fmt.Errorf("read packed history: %w", err)
		}
		name := path.Join(one.prefix, ".git", rel)
		if d.IsDir() {
			return a.directory(name, 0o755, now)
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("read packed history: %w", err)
		}
		m.expect(0, info.Size())
		return a.hostFile(name, file)
	})
	if err != nil {
		return err
	}
	for _, f := range one.gitDir.packs {
		info, err := f.Stat()
		if err != nil {
			return fmt.Errorf("read packed history: %w", err)
		}
		m.expect(0, info.Size())
		name := path.Join(one.prefix, ".git/objects/pack", filepath.Base(f.Name()))
		if err := a.stream(name, 0o444, now, f, info.Size()); err != nil {
			return err
		}
	}
	return nil
}
