package workspace

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// A pipe, socket or device where git or we expect a file must not make anybody
// wait for its other end.
func TestSpecialFilesDoNotBlock(t *testing.T) {
	t.Parallel()
	template, kinds := newTemplate(t), specialFiles(t)
	important := []string{"a.txt", ".gitignore", ".git", ".git/HEAD", ".git/config", ".git/index"}
	for _, path := range []string{
		"a.txt", "untracked", ".gitignore", "dir/.gitignore", ".gitattributes", ".gitmodules", ".git",
		".git/HEAD", ".git/config", ".git/config.worktree", ".git/index", ".git/packed-refs", ".git/refs", ".git/refs/heads/x",
		".git/objects", ".git/objects/ab/" + "cdefcdefcdefcdefcdefcdefcdefcdefcdefcd", ".git/objects/pack",
		".git/objects/pack/pack-x.idx", ".git/objects/info/alternates", ".git/objects/info/commit-graph",
		".git/commondir", ".git/gitdir", ".git/shallow", ".git/info/exclude", ".git/info/attributes", ".git/info/sparse-checkout",
		".git/logs/refs/stash", ".git/MERGE_MSG", ".git/MERGE_HEAD", ".git/ORIG_HEAD", ".git/sequencer/todo",
		"nested/.git", "nested/.git/HEAD", "nested/.git/config", "nested/.git/index", "nested/.git/commondir", "nested/.git/refs/heads/main",
		"nested/.gitignore", "sub/.git", "sub/.gitattributes", ".git/modules/sub/HEAD", ".git/modules/sub/refs/heads/main", ".git/modules/sub/index",
	} {
		for kind, make := range kinds {
			if kind != "pipe" && !slices.Contains(important, path) {
				continue
			}
			t.Run(path+" as "+kind, func(t *testing.T) {
				t.Parallel()
				repo := filepath.Join(t.TempDir(), "repo")
				if out, err := exec.Command("cp", "-a", template, repo).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				place := filepath.Join(repo, path)
				mustRemoveAll(t, place)
				if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := make(place); err != nil {
					t.Fatal(err)
				}
				pushInTime(t, api.Workspace{Path: repo})
				pushInTime(t, api.Workspace{Path: repo, Branch: "new", From: "HEAD~1"})
			})
		}
	}
}

// newTemplate makes a repository with another and a submodule in it, in which
// git has to read files to tell whether they are changed.
func newTemplate(t *testing.T) string {
	t.Helper()
	repo := newRepo(t)
	run(t, repo, "submodule", "--quiet", "add", newRepo(t), "sub")
	commit(t, repo, "a submodule")
	for _, dir := range []string{"sub", "."} {
		tempting(t, filepath.Join(repo, dir))
	}
	run(t, repo, "config", "extensions.worktreeConfig", "true")
	if err := os.Rename(newRepo(t), filepath.Join(repo, "nested")); err != nil {
		t.Fatal(err)
	}
	return repo
}

// specialFiles are ways to make what is no regular file, as far as this process
// may.
func specialFiles(t *testing.T) map[string]func(path string) error {
	t.Helper()
	kinds := map[string]func(path string) error{
		"pipe": func(path string) error { return unix.Mkfifo(path, 0o644) },
		"socket": func(path string) error {
			// Its path may be longer than a socket's address.
			dir, err := os.MkdirTemp("", "s")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/s", Net: "unix"})
			if err != nil {
				return err
			}
			l.SetUnlinkOnClose(false)
			return errors.Join(l.Close(), os.Rename(dir+"/s", path))
		},
	}
	zero := func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) }
	if zero(filepath.Join(t.TempDir(), "zero")) == nil { // only root can
		kinds["device"] = zero
	}
	return kinds
}

// pushInTime copies a workspace or finds out that it can't be copied.
func pushInTime(t *testing.T, w api.Workspace) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		plan, err := Inspect(ctx, w)
		if err == nil {
			err = plan.Push(ctx, func(_ context.Context, _ string, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				return err
			}, nil)
		}
		done <- err
	}()
	select {
	case err := <-done:
		switch {
		case ctx.Err() != nil:
			t.Errorf("%+v: waited until the context ended", w)
		case err != nil && api.AsError(err).Hint == "":
			t.Errorf("%+v: %v", w, err)
		case err != nil:
			t.Logf("%v", err)
		}
	case <-time.After(3 * time.Minute):
		t.Errorf("%+v: waits for ever", w)
	}
}
