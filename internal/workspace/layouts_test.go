package workspace

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// A repository whose refs are in tables has a file where the others have their
// branches. Not every git can make one, so it is made by hand.
func TestReftableLayout(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	gitDir := filepath.Join(repo, ".git")
	mustRemoveAll(t, filepath.Join(gitDir, "refs"))
	write(t, gitDir, "refs/heads", "this repository uses the reftable format\n")
	write(t, gitDir, "HEAD", "ref: refs/heads/.invalid\n")
	write(t, gitDir, "reftable/tables.list", "0x000000000001-0x000000000001-00000001.ref\n")
	write(t, gitDir, "reftable/0x000000000001-0x000000000001-00000001.ref", "REFT")
	write(t, gitDir, "config", "[core]\n\trepositoryformatversion = 1\n[extensions]\n\trefStorage = reftable\n")

	r, err := openRepository(t.Context(), repo, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, r.view.dir, "reftable/tables.list"); !strings.HasPrefix(got, "0x") {
		t.Errorf("tables.list is %q", got)
	}
	if text := read(t, r.view.dir, "config"); !strings.Contains(text, "refstorage = \"reftable\"") {
		t.Errorf("git isn't told of the tables:\n%s", text)
	}
	// The guest's repository gets its refs as files.
	g := newGitDir(&part{repo: r}, t.TempDir())
	for _, step := range []func(context.Context) error{g.writeConfig, g.writeGuestConfig} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if text := read(t, g.dir, "config"); strings.Contains(text, "reftable") {
			t.Errorf("the copy claims to have tables:\n%s", text)
		}
	}
}

// findObstacle is asked while git is already waiting, so it must find whatever
// git opens.
func TestObstaclesInNestedRepositories(t *testing.T) {
	t.Parallel()
	pipe := func(t *testing.T, path string) {
		t.Helper()
		if err := errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Dir(path), 0o755), unix.Mkfifo(path, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for name, block := range map[string]func(t *testing.T, top string){
		"HEAD that a .git file leads to": func(t *testing.T, top string) {
			write(t, top, "nested/.git", "gitdir: ../other\n")
			for _, dir := range []string{"other/objects", "other/refs"} {
				if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			pipe(t, filepath.Join(top, "other/HEAD"))
		},
		"branch that a link leads to": func(t *testing.T, top string) {
			run(t, top, "init", "-q", "elsewhere")
			if err := os.Rename(filepath.Join(top, "elsewhere/.git"), filepath.Join(top, "elsewhere/git")); err != nil {
				t.Fatal(err)
			}
			replaceLink(t, top, "nested/.git", "../elsewhere/git")
			pipe(t, filepath.Join(top, "elsewhere/git/refs/heads/main"))
		},
		"configuration of a common directory": func(t *testing.T, top string) {
			write(t, top, "nested/.git", "gitdir: ../other\n")
			write(t, top, "other/HEAD", "ref: refs/heads/main\n")
			write(t, top, "other/commondir", "../common\n")
			pipe(t, filepath.Join(top, "common/config"))
		},
		"link to a pipe": func(t *testing.T, top string) {
			run(t, top, "init", "-q", "nested")
			pipe(t, filepath.Join(top, "pipe"))
			replaceLink(t, top, "nested/.git/HEAD", "../../pipe")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := newRepo(t)
			block(t, top)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := findObstacle(ctx, top); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "a named pipe") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Sockets in a git directory, such as that of git's file system monitor, keep
// nobody waiting.
func TestSocketsOfGitAreNoObstacle(t *testing.T) {
	t.Parallel()
	top := newRepo(t)
	run(t, top, "init", "-q", "nested")
	for _, dir := range []string{".git", "nested/.git"} {
		// Its full path would be too long for a socket's.
		l, err := net.Listen("unix", shortPath(t, filepath.Join(top, dir))+"/fsmonitor--daemon.ipc")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	if err := findObstacle(t.Context(), top); err != nil {
		t.Error(err)
	}
}

// shortPath returns a short path to a directory.
func shortPath(t *testing.T, dir string) string {
	t.Helper()
	short, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	if err := os.Symlink(dir, filepath.Join(short, "d")); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(short, "d")
}

// Where a bare repository has worktrees beside it, its own directory is none,
// and to make it one would break it.
func TestBareRepositoryWithWorktrees(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, "/", "clone", "-q", "--bare", newRepo(t), filepath.Join(dir, ".bare"))
	write(t, dir, ".git", "gitdir: ./.bare\n")
	run(t, dir, "worktree", "add", "-q", "work", "main")
	_, err := tryPush(t, api.Workspace{Path: dir})
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "bare") || strings.Contains(api.AsError(err).Hint, "core.worktree") {
		t.Errorf("got %v (%s)", err, api.AsError(err).Hint)
	}
	if hint := api.AsError(err).Hint; !strings.Contains(hint, "worktree list") {
		t.Errorf("the hint is %q", hint)
	}
	push(t, api.Workspace{Path: filepath.Join(dir, "work")})
}
