package workspace

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"banger/internal/api"
)

// A directory can claim to be part of a repository that its author couldn't
// read: by a .git file, a symbolic link or alternates, which lead anywhere. So
// what is outside counts only if it says itself that it belongs here, or if the
// user says so in a configuration of their own:
//
//	git config --global --add banger.safeDirectory DIRECTORY
//
// This is like git's safe.directory, which tells whose repositories git works
// with; what it names is safe with all that is in it, and * is everything.
const safeDirectorySetting = "banger.safedirectory"

// checkTrust refuses a repository whose parts aren't its own.
func (r *repository) checkTrust() error {
	if err := r.checkOwner(); err != nil {
		return err
	}
	if err := r.checkWorktree(); err != nil {
		return err
	}
	return r.checkObjects()
}

// checkOwner refuses a repository that another user can change while it is
// read, as git does. See safe.directory in git-config(1).
func (r *repository) checkOwner() error {
	for _, path := range []string{r.top, filepath.Join(r.top, ".git"), r.gitDir} {
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return fmt.Errorf("look at the repository: %w", err)
		}
		if isOwn(st.Uid) || r.isDeclaredSafe() {
			continue
		}
		return api.Errorf(api.CodeInvalid, "git doesn't trust %s, because it belongs to another user", r.top).
			WithHint("git config --global --add safe.directory %s", r.top)
	}
	return nil
}

// isOwn reports whether a file's owner is the user, who may have become root
// by sudo.
func isOwn(uid uint32) bool {
	euid := os.Geteuid()
	if int(uid) == euid {
		return true
	}
	before, err := strconv.ParseUint(os.Getenv("SUDO_UID"), 10, 32)
	return euid == 0 && err == nil && uid == uint32(before)
}

func (r *repository) isDeclaredSafe() bool {
	safe := false
	for _, s := range r.user {
		if s.key() != "safe.directory" || s.sub != "" {
			continue
		}
		switch path := expandHome(s.value); {
		case path == "":
			safe = false // an empty value starts the list anew
		case path == "*", filepath.Clean(path) == r.top:
			safe = true
		case strings.HasSuffix(path, "/*") && isBelow(r.top, strings.TrimSuffix(path, "/*")):
			safe = true
		}
	}
	return safe
}

// checkWorktree checks that git directory and working tree belong together.
func (r *repository) checkWorktree() error {
	if isTrue(r.ownSetting("core.bare")) && !r.isLinked() {
		return r.bareError()
	}
	if own := r.ownSetting("core.worktree"); own != "" && !r.isLinked() {
		tree, err := filepath.EvalSymlinks(absolute(r.gitDir, own))
		switch {
		case err == nil && tree == r.top:
			return nil // it points back
		case !r.isOutside():
			return api.Errorf(api.CodeInvalid, "the repository at %s has its working tree elsewhere, at %s", r.top, own).
				WithHint("unset core.worktree, or use a clone")
		}
	}
	if !r.isOutside() {
		return nil
	}
	if r.isWorktreeOf() || r.isSafe(r.gitDir) && r.isSafe(r.commonDir) {
		return nil
	}
	return api.Errorf(api.CodeInvalid, "%s leads to the repository %s, which knows nothing of it", filepath.Join(r.top, ".git"), r.gitDir).
		WithHint("if they belong together: %s", r.repairCommand())
}

// bareError is the error for a repository that has no working tree of its own. It
// may have linked ones, in any place.
func (r *repository) bareError() error {
	err := api.Errorf(api.CodeInvalid, "%s is a bare repository: there is no working tree to copy", r.top)
	if exists(filepath.Join(r.gitDir, "worktrees")) {
		return err.WithHint("use one of its worktrees, which `git -C %s worktree list` shows", r.gitDir)
	}
	return err.WithHint("git clone it and use the clone")
}

// isWorktreeOf reports whether this is a linked worktree that the common
// directory knows.
func (r *repository) isWorktreeOf() bool {
	if filepath.Dir(r.gitDir) != filepath.Join(r.commonDir, "worktrees") {
		return false
	}
	back, err := readPathLine(r.gitDir, "gitdir")
	if err != nil || filepath.Base(back) != ".git" {
		return false
	}
	tree, err := filepath.EvalSymlinks(filepath.Dir(absolute(r.gitDir, back)))
	return err == nil && tree == r.top
}

// repairCommand is what makes the repository know of its working tree.
func (r *repository) repairCommand() string {
	if r.isLinked() {
		return fmt.Sprintf("git -C %s worktree repair %s", r.commonDir, r.top)
	}
	return fmt.Sprintf("git --git-dir=%s config core.worktree %s", r.gitDir, r.top)
}

// isSafe reports whether the user has declared a directory, or one above it,
// to be safe.
func (r *repository) isSafe(dir string) bool {
	for _, s := range r.user {
		if s.key() != safeDirectorySetting || s.sub != "" || s.value == "" {
			continue
		}
		if s.value == "*" {
			return true
		}
		if safe, err := filepath.EvalSymlinks(expandHome(s.value)); err == nil && isBelow(dir, safe) {
			return true
		}
	}
	return false
}

// isBelow reports whether path is dir or in it.
func isBelow(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// expandHome replaces the ~ that git allows in paths.
func expandHome(path string) string {
	rest, ok := strings.CutPrefix(path, "~/")
	home, err := os.UserHomeDir()
	if !ok || err != nil {
		return path
	}
	return filepath.Join(home, rest)
}

// maxAlternates bounds how many other object directories are used.
const maxAlternates = 16

// checkObjects looks at all files of the object directory and of those that it
// takes objects from, since git opens them by name: it would follow links and
// wait for pipes. It notes the directories that may be used.
func (r *repository) checkObjects() error {
	dir, err := filepath.EvalSymlinks(filepath.Join(r.commonDir, "objects"))
	if err != nil {
		return api.Errorf(api.CodeInvalid, "%s has no objects: %v", r.top, err).
			WithHint("see what git fsck says there")
	}
	if !isBelow(dir, r.commonDir) && !r.isSafe(dir) {
		return r.foreignObjects(dir, "a symbolic link")
	}
	return r.addObjects(dir)
}

func (r *repository) addObjects(dir string) error {
	if slices.Contains(r.objects, dir) {
		return nil
	}
	if len(r.objects) > maxAlternates {
		return api.Errorf(api.CodeInvalid, "%s takes objects from more than %d repositories", r.top, maxAlternates).
			WithHint("git -C %s repack -a -d makes it independent", r.top)
	}
	r.objects = append(r.objects, dir)
	if err := r.checkRegular(dir, 2); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open objects: %w", err)
	}
	defer root.Close()
	data, err := readEssential(root, "info/alternates", maxConfigFile)
	if err != nil || data == nil {
		return err
	}
	for _, path := range parseAlternates(data) {
		other, err := filepath.EvalSymlinks(absolute(dir, path))
		if err != nil {
			continue // git goes on without it as well
		}
		if !r.isSafe(other) {
			return r.foreignObjects(other, "info/alternates")
		}
		if err := r.addObjects(other); err != nil {
			return err
		}
	}
	return nil
}

func (r *repository) foreignObjects(dir, by string) error {
	return api.Errorf(api.CodeInvalid, "%s takes objects from another repository, %s, by %s", r.top, dir, by).
		WithHint("if both are yours: git config --global --add banger.safeDirectory %s", dir)
}

// parseAlternates reads the directories that a file of alternates names, see
// gitrepository-layout(5). Quoted ones, which git doesn't write, are not
// understood.
func parseAlternates(data []byte) []string {
	var paths []string
	for line := range strings.SplitSeq(string(data), "\n") {
		if line != "" && !strings.HasPrefix(line, "#") && !strings.ContainsRune(line, 0) {
			paths = append(paths, line)
		}
	}
	return paths
}

// checkRegular refuses anything but files and directories in a directory.
func (r *repository) checkRegular(dir string, depth int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch mode := e.Type(); {
		case mode.IsRegular():
		case mode.IsDir():
			if depth > 0 {
				err = r.checkRegular(path, depth-1)
			}
		case mode&fs.ModeSymlink != 0:
			err = r.checkObjectLink(path, depth)
		default:
			err = api.Errorf(api.CodeInvalid, "%s is %s where a file should be", path, kindOf(mode)).
				WithHint("remove it, and see what git fsck says there")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkObjectLink checks a symbolic link among the objects.
func (r *repository) checkObjectLink(path string, depth int) error {
	target, err := filepath.EvalSymlinks(path)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at objects: %w", err)
	}
	if !r.isSafe(target) {
		return r.foreignObjects(target, "a symbolic link")
	}
	info, err := os.Stat(target)
	switch {
	case isGone(err):
		return nil
	case err != nil:
		return fmt.Errorf("look at objects: %w", err)
	case info.IsDir() && depth > 0:
		return r.checkRegular(target, depth-1)
	case !info.IsDir() && !info.Mode().IsRegular():
		return api.Errorf(api.CodeInvalid, "%s is %s where a file should be", target, kindOf(info.Mode()))
	}
	return nil
}
