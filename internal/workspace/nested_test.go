package workspace

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
)

// newSuper makes a repository with a submodule that has one itself, and with
// one that isn't checked out.
func newSuper(t *testing.T) string {
	t.Helper()
	inner, sub, super := newRepo(t), newRepo(t), newRepo(t)
	run(t, sub, "submodule", "--quiet", "add", inner, "deep/inner")
	commit(t, sub, "add inner")
	run(t, super, "submodule", "--quiet", "add", "--name", "the sub", sub, "modules/sub")
	run(t, super, "submodule", "--quiet", "add", inner, "absent")
	commit(t, super, "add submodules")
	run(t, super, "submodule", "--quiet", "update", "--init", "--recursive")
	run(t, super, "submodule", "--quiet", "deinit", "absent")
	write(t, super, "modules/sub/a.txt", "changed in the submodule\n")
	write(t, super, "modules/sub/deep/inner/untracked", "untracked\n")
	return super
}

func TestSubmodulesAreRepositoriesOfTheirOwn(t *testing.T) {
	t.Parallel()
	super := newSuper(t)
	run(t, filepath.Join(super, "modules/sub"), "remote", "set-url", "origin", "https://me:secret@example.com/sub.git")
	guest := push(t, api.Workspace{Path: super})
	for _, dir := range []string{"modules/sub", "modules/sub/deep/inner"} {
		if info, err := os.Lstat(filepath.Join(guest, dir, ".git")); err != nil || !info.IsDir() {
			t.Errorf("%s/.git is no directory: %v", dir, err)
		}
		checkSame(t, filepath.Join(super, dir), filepath.Join(guest, dir))
	}
	if got := strings.TrimSpace(run(t, filepath.Join(guest, "modules/sub"), "remote", "get-url", "origin")); got != "https://example.com/sub.git" {
		t.Errorf("remote: %s", got)
	}
	args := []string{"submodule", "status", "--recursive"}
	if diff := cmp.Diff(run(t, super, args...), run(t, guest, args...)); diff != "" {
		t.Errorf("submodule status (-source +guest):\n%s", diff)
	}
	run(t, guest, "submodule", "--quiet", "update", "--init", "absent")
	if got := read(t, guest, "absent/a.txt"); got != "one\nmore\n" {
		t.Errorf("absent/a.txt: %q", got)
	}
}

func TestUntrackedRepositoriesAreCopied(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	run(t, repo, "init", "-q", "sub/unborn")
	write(t, repo, "sub/unborn/file", "file\n")
	run(t, repo, "clone", "-q", repo, "clone")
	write(t, repo, "clone/file", "file\n")
	guest := push(t, api.Workspace{Path: repo})
	checkSame(t, repo, guest)
	checkSame(t, filepath.Join(repo, "clone"), filepath.Join(guest, "clone"))
	if got := run(t, filepath.Join(guest, "sub/unborn"), "status", "--porcelain"); got != "?? file\n" {
		t.Errorf("unborn: %q", got)
	}
}

func TestBrokenSubmodule(t *testing.T) {
	t.Parallel()
	super := newSuper(t)
	if err := os.RemoveAll(filepath.Join(super, ".git/modules/the sub/HEAD")); err != nil {
		t.Fatal(err)
	}
	_, err := tryPush(t, api.Workspace{Path: super})
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "modules/sub") {
		t.Errorf("got %v", err)
	}
}
