package workspace

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
)

func TestBranchAtHEADKeepsTheWorkingTree(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"", "HEAD", "@"} {
		repo := newRepo(t)
		write(t, repo, "a.txt", "changed\n")
		run(t, repo, "add", "a.txt")
		write(t, repo, "untracked", "untracked\n")
		guest := push(t, api.Workspace{Path: repo, Branch: "fix/it", From: from})
		if got := run(t, guest, "status", "--porcelain", "--branch"); got != "## fix/it\nM  a.txt\n?? untracked\n" {
			t.Errorf("from %q: status %q", from, got)
		}
		if got, want := run(t, guest, "rev-parse", "fix/it"), run(t, repo, "rev-parse", "main"); got != want {
			t.Errorf("from %q: at %s, want %s", from, got, want)
		}
		checkHistory(t, repo, guest)
	}
}

func TestChangesAreLeft(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	write(t, repo, "run.sh", "#!/bin/sh\n")
	write(t, repo, "empty", "")
	write(t, repo, "big", strings.Repeat("x", 3*smallFile))
	write(t, repo, "latin-\xe9\n", "x")
	if err := errors.Join(os.Chmod(filepath.Join(repo, "run.sh"), 0o755), os.Symlink("dir", filepath.Join(repo, "link"))); err != nil {
		t.Fatal(err)
	}
	commit(t, repo, "kinds")
	run(t, repo, "tag", "-a", "-m", "here", "v1")
	write(t, repo, "later", "later\n")
	commit(t, repo, "later")
	write(t, repo, "a.txt", "changed\n")
	write(t, repo, "untracked", "untracked\n")
	conflicting := filepath.Join(repo, ".git/MERGE_MSG")
	write(t, repo, ".git/MERGE_MSG", "unfinished\n")

	for _, from := range []string{"v1", "main", "HEAD", ""} {
		guest := push(t, api.Workspace{Path: repo, Branch: "b", From: from, LeaveChanges: true})
		if got := run(t, guest, "status", "--porcelain", "--branch"); got != "## b\n" {
			t.Errorf("status %q", got)
		}
		if got, want := run(t, guest, "rev-parse", "HEAD"), run(t, repo, "rev-parse", cmp.Or(from, "HEAD")+"^{commit}"); got != want {
			t.Errorf("at %s, want %s", got, want)
		}
		if exists(filepath.Join(guest, "later")) != (from != "v1") || exists(filepath.Join(guest, "untracked")) {
			t.Errorf("%s has files that it shouldn't have", from)
		}
		if exists(filepath.Join(guest, ".git", filepath.Base(conflicting))) {
			t.Error("the state of an unfinished merge was copied")
		}
		checkHistory(t, repo, guest)
	}
}

func TestCleanCheckoutHasSubmodulesOfThatCommit(t *testing.T) {
	t.Parallel()
	super := newSuper(t)
	sub := filepath.Join(super, "modules/sub")
	was := run(t, sub, "rev-parse", "HEAD")
	run(t, super, "tag", "before")
	commit(t, sub, "newer")
	commit(t, super, "newer submodule")

	guest := push(t, api.Workspace{Path: super, Branch: "b", From: "before", LeaveChanges: true})
	if got := run(t, guest, "status", "--porcelain"); got != "" {
		t.Errorf("status %q", got)
	}
	if got := run(t, filepath.Join(guest, "modules/sub"), "rev-parse", "HEAD"); got != was {
		t.Errorf("submodule at %s, want %s", got, was)
	}
	if exists(filepath.Join(guest, "modules/sub/deep/inner/untracked")) || !exists(filepath.Join(guest, "modules/sub/deep/inner/a.txt")) {
		t.Error("the submodule's submodule is no clean checkout")
	}
}

func TestCleanCheckoutOfASparseOne(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	write(t, repo, "other/c.txt", "three\n")
	commit(t, repo, "third")
	run(t, repo, "sparse-checkout", "set", "--cone", "dir")
	guest := push(t, api.Workspace{Path: repo, Branch: "b", From: "main", LeaveChanges: true})
	if got := run(t, guest, "status", "--porcelain"); got != "" || !exists(filepath.Join(guest, "other/c.txt")) {
		t.Errorf("status %q", got)
	}
}

func TestCleanCheckoutOfWhatIsMissing(t *testing.T) {
	t.Parallel()
	origin := newRepo(t)
	run(t, origin, "config", "uploadpack.allowFilter", "true")
	clone := filepath.Join(t.TempDir(), "clone")
	run(t, "/", "clone", "-q", "--filter=blob:none", "file://"+origin, clone)
	_, err := tryPush(t, api.Workspace{Path: clone, Branch: "b", From: "HEAD~1"})
	if err == nil || !strings.Contains(err.Error(), "lacks the content") || api.AsError(err).Hint == "" {
		t.Errorf("got %v", err)
	}
}
