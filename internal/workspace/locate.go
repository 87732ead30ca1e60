package workspace

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"banger/internal/api"
)

// location is where the parts of a repository are. All paths are free of
// symbolic links.
type location struct {
	top       string // the working tree
	gitDir    string // HEAD, index and state; of a linked worktree its own. "" without a repository
	commonDir string // objects, refs and configuration
}

// isLinked reports whether it is a linked worktree, see git-worktree(1).
func (l location) isLinked() bool { return l.gitDir != l.commonDir }

// isOutside reports whether the git directory is elsewhere than in the working
// tree's .git.
func (l location) isOutside() bool {
	return l.gitDir != filepath.Join(l.top, ".git") || l.isLinked()
}

// errNoRepository is returned where neither a directory nor those above it are
// the top of a working tree.
var errNoRepository = errors.New("not a git repository")

// locate finds the repository that dir is in, as git does (see
// gitrepository-layout(5)), but without reading its configuration. The result
// may be what another repository pretends to be: see checkTrust.
func locate(dir string) (location, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return location{}, fmt.Errorf("resolve %s: %w", dir, err)
	}
	start, err := deviceOf(real)
	if err != nil {
		return location{}, err
	}
	for d := real; ; d = filepath.Dir(d) {
		if device, err := deviceOf(d); err != nil || device != start {
			return location{}, errNoRepository // git stops at a file system's edge too
		}
		at, found, err := locateAt(d)
		if found || err != nil {
			return at, err
		}
		if isGitDir(d) {
			return location{}, api.Errorf(api.CodeInvalid, "%s is a bare repository or inside of one: there is no working tree to copy", dir).
				WithHint("git clone it and use the clone")
		}
		if d == filepath.Dir(d) {
			return location{}, errNoRepository
		}
	}
}

// locatePlain is the location of a directory that is no repository. One that
// holds a home is refused: with all that is in it, much would be copied that
// wasn't meant.
func locatePlain(dir string) (location, error) {
	top, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return location{}, fmt.Errorf("resolve %s: %w", dir, err)
	}
	home, err := os.UserHomeDir()
	if err == nil {
		home, err = filepath.EvalSymlinks(home)
	}
	if top == "/" || err == nil && isBelow(home, top) {
		return location{}, api.Errorf(api.CodeInvalid, "%s is not a git repository, and all files in it would be copied", dir).
			WithHint("name a directory in it, or run `git init` there and ignore what is to stay")
	}
	return location{top: top}, nil
}

// locateAt looks at the .git of one directory.
func locateAt(top string) (at location, found bool, err error) {
	dotGit := filepath.Join(top, ".git")
	info, err := os.Stat(dotGit)
	if err != nil {
		return location{}, false, nil // also a link to nothing, as for git
	}
	gitDir := dotGit
	switch {
	case info.IsDir():
		if !isGitDir(dotGit) {
			return location{}, false, nil
		}
	case info.Mode().IsRegular():
		if gitDir, err = readGitFile(top); err != nil {
			return location{}, false, err
		}
	default:
		return location{}, false, api.Errorf(api.CodeInvalid, "%s is %s, neither a directory nor a file", dotGit, kindOf(info.Mode())).
			WithHint("remove it, or copy another directory")
	}
	if gitDir, err = filepath.EvalSymlinks(gitDir); err != nil || !isGitDir(gitDir) {
		return location{}, false, notARepository(top)
	}
	common, err := commonDirOf(gitDir)
	if err != nil {
		return location{}, false, err
	}
	return location{top: top, gitDir: gitDir, commonDir: common}, true, nil
}

func notARepository(dir string) error {
	return api.Errorf(api.CodeInvalid, "%s has a .git that git doesn't take for a repository", dir).
		WithHint("repair it, for instance by `git submodule update --init`, or remove it")
}

// readGitFile reads the .git file of a submodule or a linked worktree.
func readGitFile(top string) (string, error) {
	root, err := os.OpenRoot(top)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", top, err)
	}
	defer root.Close()
	data, err := readEssential(root, ".git", maxSmallFile)
	if err != nil {
		return "", err
	}
	dir, err := parseGitFile(data)
	if err != nil {
		return "", api.Errorf(api.CodeInvalid, "read %s: %v", filepath.Join(top, ".git"), err).
			WithHint("repair it, for instance by `git submodule update --init` or `git worktree repair`, or remove it")
	}
	return absolute(top, dir), nil
}

// parseGitFile reads "gitdir: PATH".
func parseGitFile(data []byte) (string, error) {
	path, ok := bytes.CutPrefix(data, []byte("gitdir: "))
	if !ok {
		return "", errors.New("it doesn't begin with \"gitdir: \"")
	}
	return parsePathLine(path)
}

// parsePathLine reads a file that holds one path, as gitdir and commondir do.
// A path may have any byte but NUL, also line ends within it.
func parsePathLine(data []byte) (string, error) {
	path := strings.TrimRight(string(data), "\r\n")
	switch {
	case path == "":
		return "", errors.New("it names no path")
	case strings.ContainsRune(path, 0):
		return "", errors.New("a path has no NUL byte")
	}
	return path, nil
}

// commonDirOf returns the directory that a git directory shares with those of
// other worktrees: mostly itself.
func commonDirOf(gitDir string) (string, error) {
	path, err := readPathLine(gitDir, "commondir")
	if err != nil || path == "" {
		return gitDir, err
	}
	common, err := filepath.EvalSymlinks(absolute(gitDir, path))
	if err != nil {
		return "", api.Errorf(api.CodeInvalid, "the repository that %s belongs to is gone: %v", gitDir, err).
			WithHint("git worktree repair, run in that repository, mends moved ones")
	}
	return common, nil
}

// readPathLine reads a file of a git directory that holds a path; "" if there
// is none.
func readPathLine(gitDir, name string) (string, error) {
	root, err := os.OpenRoot(gitDir)
	if err != nil {
		return "", fmt.Errorf("open git directory: %w", err)
	}
	defer root.Close()
	data, err := readEssential(root, name, maxSmallFile)
	if err != nil || data == nil {
		return "", err
	}
	path, err := parsePathLine(data)
	if err != nil {
		return "", badGitFile(root, name, err)
	}
	return path, nil
}

// isGitDir reports whether git would take a directory for that of a repository.
func isGitDir(dir string) bool {
	if !exists(filepath.Join(dir, "HEAD")) {
		return false
	}
	if exists(filepath.Join(dir, "commondir")) {
		return true // the rest is elsewhere
	}
	return isDir(filepath.Join(dir, "objects")) && isDir(filepath.Join(dir, "refs"))
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// absolute is path as seen from dir. It isn't cleaned: .. after a symbolic link
// leads where the link does.
func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return dir + "/" + path
}

func deviceOf(path string) (uint64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("look for a repository: %w", err)
	}
	return info.Sys().(*syscall.Stat_t).Dev, nil
}
