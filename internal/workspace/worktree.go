package workspace

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// worktree is the content of a working tree, or of a directory in it, as it is.
type worktree struct {
	top    string // on the host
	prefix string // path in the workspace; "" for the top
	files  []hostFile
	// parents are the directories that files are in, nil for what is no
	// directory or is missing.
	parents map[string]fs.FileInfo
}

// hostFile is something in a working tree at the time when it was listed.
type hostFile struct {
	path string // relative to the top
	info fs.FileInfo
}

// listWorktree lists what belongs to the working tree for git, or to the directory
// below in it. nested are the paths of repositories in it: submodules and others.
func listWorktree(ctx context.Context, r *repository, below, prefix string) (w *worktree, nested []string, err error) {
	w = &worktree{top: filepath.Join(r.top, below), prefix: prefix, parents: make(map[string]fs.FileInfo)}
	here := r.git
	here.dir = w.top // where git's paths begin
	out, err := r.inWorktree(ctx, here, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return nil, nil, err
	}
	names := fields(out)
	for i, name := range names {
		names[i] = strings.TrimSuffix(name, "/") // an untracked repository
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) { // a path in conflict is listed for each side
		if !filepath.IsLocal(name) {
			return nil, nil, fmt.Errorf("git ls-files: bad path %q", name)
		}
		info, err := w.lstat(name)
		if err != nil {
			return nil, nil, err
		}
		if info == nil {
			continue // deleted
		}
		w.files = append(w.files, hostFile{name, info})
		if info.IsDir() && exists(filepath.Join(w.top, name, ".git")) {
			nested = append(nested, name)
		}
	}
	return w, nested, nil
}

// lstat looks at a path. It returns nil for one that doesn't exist, or only by
// way of a symbolic link, behind which nothing belongs to the working tree.
func (w *worktree) lstat(name string) (fs.FileInfo, error) {
	if dir := path.Dir(name); dir != "." {
		parent, known := w.parents[dir]
		if !known {
			var err error
			if parent, err = w.lstat(dir); err != nil {
				return nil, err
			}
			if parent != nil && !parent.IsDir() {
				parent = nil
			}
			w.parents[dir] = parent
		}
		if parent == nil {
			return nil, nil
		}
	}
	info, err := os.Lstat(filepath.Join(w.top, name))
	if isGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("copy workspace: %w", err)
	}
	return info, nil
}

func (w *worktree) size() (files int, bytes int64) {
	for _, f := range w.files {
		if f.info.Mode().IsRegular() {
			bytes += f.info.Size()
		}
	}
	return len(w.files), bytes
}

func (w *worktree) write(ctx context.Context, a *archive) error {
	for _, f := range w.files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.addParents(a, f.path); err != nil {
			return err
		}
		if err := w.add(a, f); err != nil {
			return err
		}
		a.meter.file()
	}
	return nil
}

// addParents adds the directories above a file with their permissions.
func (w *worktree) addParents(a *archive, name string) error {
	dir := path.Dir(name)
	guestDir := path.Join(w.prefix, dir)
	if dir == "." || a.made[guestDir] {
		return nil
	}
	if err := w.addParents(a, dir); err != nil {
		return err
	}
	info := w.parents[dir]
	return a.directory(guestDir, info.Mode(), info.ModTime())
}

func (w *worktree) add(a *archive, f hostFile) error {
	name, hostPath := path.Join(w.prefix, f.path), filepath.Join(w.top, f.path)
	switch mode := f.info.Mode(); {
	case mode.IsDir(): // a submodule, or a file that made way for a directory
		return a.directory(name, mode, f.info.ModTime())
	case mode&fs.ModeSymlink != 0:
		target, err := os.Readlink(hostPath)
		if err != nil {
			return nil // it is something else by now
		}
		return a.symlink(name, target, f.info.ModTime())
	case mode.IsRegular():
		return a.hostFile(name, hostPath)
	}
	return nil // git knows no devices, pipes and sockets
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
