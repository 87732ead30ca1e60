package workspace

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// A view is what git works with instead of a repository's own git directory: a
// copy of its small files, with a configuration made for it and the objects
// linked. So git never reads the configuration of the repository, which can
// name programs and files in more ways than could be forbidden one by one, and
// nothing but what was found to be a regular file of the repository's. The
// user's own configuration and the system's are in force.
type view struct {
	dir    string // to be given to git as GIT_DIR
	common string // for git the common directory; like dir but for linked worktrees
	// alternates is the content of the file by which a git directory gets the
	// repository's objects.
	alternates []byte
}

// makeView makes the view in an empty directory.
func (r *repository) makeView(tmp string) error {
	r.view = view{dir: filepath.Join(tmp, "git"), common: filepath.Join(tmp, "git")}
	if r.isLinked() {
		r.view.common = filepath.Join(tmp, "common")
	}
	for _, dir := range []string{"info", "logs/refs", "objects/info", "objects/pack", "refs/heads"} {
		if err := os.MkdirAll(filepath.Join(r.view.common, dir), 0o700); err != nil {
			return fmt.Errorf("create git directory: %w", err)
		}
	}
	if err := writeFile(r.view.common, "config", r.config(configOfView)); err != nil {
		return err
	}
	if err := r.writeOwnPatterns(); err != nil {
		return err
	}
	if r.isPlain() {
		return writeFile(r.view.dir, "HEAD", []byte("ref: "+headsPrefix+"main\n"))
	}
	if r.isLinked() {
		if err := writeFile(r.view.dir, "commondir", []byte("../common\n")); err != nil {
			return err
		}
	}
	if err := r.copyFiles(); err != nil {
		return err
	}
	return r.linkObjects(tmp)
}

// copyFiles copies what git reads but for configuration and objects.
func (r *repository) copyFiles() error {
	own, err := os.OpenRoot(r.gitDir)
	if err != nil {
		return fmt.Errorf("open git directory: %w", err)
	}
	defer own.Close()
	common, err := os.OpenRoot(r.commonDir)
	if err != nil {
		return fmt.Errorf("open git directory: %w", err)
	}
	defer common.Close()
	for _, step := range []func() error{
		func() error { return copyHeads(own, r.view.dir) },
		func() error { return r.copyRefs(own, r.view.dir) },
		func() error { return r.copyRefs(common, r.view.common) },
		func() error { return copyEssential(common, "packed-refs", r.view.common, maxPackedRefs) },
		func() error { return copyEssential(common, "shallow", r.view.common, maxStateFile) },
		func() error { return copyTables(own, r.view.dir) },
		func() error { return copyTables(common, r.view.common) },
		func() error { return copyExtra(r.commonDir, "logs/"+stashRef, r.view.common) },
		func() error { return copyExtra(r.commonDir, "info/exclude", r.view.common) },
		func() error { return copyExtra(r.commonDir, "info/attributes", r.view.common) },
		func() error { return copyExtra(r.gitDir, "info/sparse-checkout", r.view.dir) },
		func() error { return r.copyIndex(own) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// copyReflogs adds what revisions such as main@{yesterday} and @{-1} need.
func (r *repository) copyReflogs() error {
	if err := copyExtra(r.gitDir, "logs/HEAD", r.view.dir); err != nil {
		return err
	}
	return walkFiles(r.commonDir, "logs/refs", func(name string, _ fs.DirEntry) error {
		return copyExtra(r.commonDir, name, r.view.common)
	})
}

// copyHeads copies HEAD and its like: FETCH_HEAD, ORIG_HEAD, …
func copyHeads(root *os.Root, to string) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return fmt.Errorf("read git directory: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		if name != "HEAD" && (!strings.HasSuffix(name, "_HEAD") || !e.Type().IsRegular()) {
			continue
		}
		if err := copyRef(root, name, e.Type(), to); err != nil {
			return err
		}
	}
	return nil
}

// copyRefs copies loose refs. Where refs are in tables, there are none, and a
// file is in the way of older gits.
func (r *repository) copyRefs(root *os.Root, to string) error {
	if r.ownSetting(refStorageSetting) == "reftable" {
		return nil
	}
	if info, err := root.Lstat("refs"); err != nil || !info.IsDir() {
		if err == nil {
			return badGitFile(root, "refs", errNotRegular)
		}
		return nil
	}
	return walkFiles(root.Name(), "refs", func(name string, e fs.DirEntry) error {
		if strings.HasSuffix(name, ".lock") {
			return nil // no ref is called so
		}
		return copyRef(root, name, e.Type(), to)
	})
}

func copyRef(root *os.Root, name string, mode fs.FileMode, to string) error {
	data, err := readRef(root, name, mode)
	if err != nil || data == nil {
		return err
	}
	return writeFile(to, name, data)
}

// readRef reads one ref. It may be a symbolic link to another, the oldest form
// of symbolic refs.
func readRef(root *os.Root, name string, mode fs.FileMode) ([]byte, error) {
	if mode&fs.ModeSymlink != 0 {
		target, err := root.Readlink(name)
		if err == nil && strings.HasPrefix(target, "refs/") && filepath.IsLocal(target) {
			return []byte("ref: " + target + "\n"), nil
		}
	}
	return readEssential(root, name, maxStateFile) // FETCH_HEAD grows with the remote's branches
}

// copyTables copies refs that are stored in the reftable format.
func copyTables(root *os.Root, to string) error {
	if info, err := root.Lstat("reftable"); err != nil || !info.IsDir() {
		return nil
	}
	return walkFiles(root.Name(), "reftable", func(name string, _ fs.DirEntry) error {
		return copyEssential(root, name, to, maxPackedRefs)
	})
}

// walkFiles calls visit for everything below dir/name that is no directory. It
// follows no symbolic links.
func walkFiles(dir, name string, visit func(name string, e fs.DirEntry) error) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open git directory: %w", err)
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), name, func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("read git directory: %w", err)
		case e.IsDir():
			return nil
		}
		return visit(name, e)
	})
}

// copyIndex copies the index and, if that is split, what it builds upon. See
// gitformat-index(5).
func (r *repository) copyIndex(root *os.Root) error {
	if err := copyEssential(root, "index", r.view.dir, maxIndexFile); err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(r.view.dir, "index"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read git index: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read git index: %w", err)
	}
	shared, err := sharedIndex(f, info.Size(), r.objectIDLen()/2)
	if err != nil {
		return badGitFile(root, "index", err)
	}
	if shared == "" {
		return nil
	}
	return copyEssential(root, "sharedindex."+shared, r.view.dir, maxIndexFile)
}

// copyEssential copies a file with its modification time, if there is one.
func copyEssential(root *os.Root, name, to string, limit int64) error {
	src, info, err := openInside(root, name)
	if errors.Is(err, fs.ErrNotExist) && !dangling(root, name) {
		return nil
	}
	if err != nil {
		return badGitFile(root, name, err)
	}
	defer src.Close()
	if info.Size() > limit {
		return badGitFile(root, name, fmt.Errorf("it has %d bytes", info.Size()))
	}
	target := filepath.Join(to, name)
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return fmt.Errorf("create git directory: %w", err)
	}
	dst, err := os.Create(target)
	if err != nil {
		return fmt.Errorf("copy git directory: %w", err)
	}
	_, err = io.Copy(dst, io.LimitReader(src, limit))
	if err := errors.Join(err, dst.Close()); err != nil {
		return fmt.Errorf("copy git directory: %w", err)
	}
	if err := os.Chtimes(target, info.ModTime(), info.ModTime()); err != nil {
		return fmt.Errorf("copy git directory: %w", err)
	}
	return nil
}

// copyExtra copies a file that a repository can do without.
func copyExtra(from, name, to string) error {
	data, err := readExtra(from, name)
	if err != nil || data == nil {
		return err
	}
	return writeFile(to, name, data)
}

// linkObjects lets git use the objects of the repository. What git would take
// from an info directory, further alternates above all, is left out: see
// checkObjects. Links also keep bytes away from the file of alternates that it
// doesn't take.
func (r *repository) linkObjects(tmp string) error {
	for i, dir := range r.objects {
		link := filepath.Join(tmp, fmt.Sprintf("objects-%d", i))
		if err := linkEntries(dir, link); err != nil {
			return err
		}
		r.view.alternates = append(r.view.alternates, link+"\n"...)
	}
	return writeFile(r.view.common, alternates, r.view.alternates)
}

// linkEntries makes an object directory whose parts are links to another's.
func linkEntries(from, to string) error {
	if err := os.MkdirAll(filepath.Join(to, "info"), 0o700); err != nil {
		return fmt.Errorf("link objects: %w", err)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("link objects: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name := e.Name(); name == "pack" || len(name) == 2 {
			names = append(names, name)
		}
	}
	for _, name := range []string{"info/commit-graph", "info/commit-graphs"} { // they save time
		if exists(filepath.Join(from, name)) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if err := os.Symlink(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return fmt.Errorf("link objects: %w", err)
		}
	}
	return nil
}

// git returns a git that works with the view in the working tree.
func (v view) git(top string) git {
	return git{dir: top}.with("GIT_DIR="+v.dir, "GIT_WORK_TREE="+top)
}

func writeFile(dir, name string, data []byte) error {
	target := filepath.Join(dir, name)
	if err := os.MkdirAll(path.Dir(target), 0o755); err != nil {
		return fmt.Errorf("create git directory: %w", err)
	}
	if err := os.WriteFile(target, data, 0o644); err != nil {
		return fmt.Errorf("write git directory: %w", err)
	}
	return nil
}
