package workspace

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
)

func TestPushCopiesRepositories(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) string{
		"refs": func(t *testing.T) string {
			repo := newRepo(t)
			run(t, repo, "branch", "feature/x", "HEAD~1")
			run(t, repo, "tag", "light")
			run(t, repo, "tag", "-a", "-m", "annotated", "v1")
			run(t, repo, "tag", "-a", "-m", "tag of a tag", "v1-signed-off", "v1")
			run(t, repo, "tag", "-a", "-m", "of a blob", "blob", "HEAD:a.txt")
			run(t, repo, "notes", "add", "-m", "a note")
			run(t, repo, "update-ref", "refs/remotes/origin/main", "HEAD~1")
			run(t, repo, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
			run(t, repo, "pack-refs", "--all")
			run(t, repo, "branch", "loose")
			return repo
		},
		"broken ref": func(t *testing.T) string {
			repo := newRepo(t)
			run(t, repo, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/gone")
			return repo
		},
		"detached HEAD": func(t *testing.T) string {
			repo := newRepo(t)
			run(t, repo, "checkout", "-q", "--detach", "HEAD~1")
			write(t, repo, "a.txt", "detached\n")
			commit(t, repo, "only HEAD knows this commit")
			return repo
		},
		"stash": func(t *testing.T) string {
			repo := newRepo(t)
			for _, text := range []string{"first", "second", "third"} {
				write(t, repo, "a.txt", text+"\n")
				write(t, repo, "untracked-"+text, text+"\n")
				run(t, repo, "stash", "push", "-u", "-q", "-m", text)
			}
			return repo
		},
		"merge conflict": func(t *testing.T) string {
			repo := newRepo(t)
			conflict(t, repo, "merge", "other")
			return repo
		},
		"rebase conflict": func(t *testing.T) string {
			repo := newRepo(t)
			conflict(t, repo, "rebase", "other")
			return repo
		},
		"cherry-pick conflict": func(t *testing.T) string {
			repo := newRepo(t)
			conflict(t, repo, "cherry-pick", "other")
			return repo
		},
		"sha256":   func(t *testing.T) string { return newRepo(t, "--object-format=sha256") },
		"gc'ed":    func(t *testing.T) string { repo := newRepo(t); run(t, repo, "gc", "-q"); return repo },
		"odd path": oddPath,
		"no index": func(t *testing.T) string { repo := newRepo(t); mustRemove(t, repo, ".git/index"); return repo },
		"index v4": func(t *testing.T) string {
			repo := newRepo(t)
			run(t, repo, "update-index", "--index-version=4")
			return repo
		},
		"submodules": newSuper,
		"linked worktree": func(t *testing.T) string {
			repo := newRepo(t)
			linked := filepath.Join(t.TempDir(), "linked")
			run(t, repo, "worktree", "add", "-q", "-b", "linked", linked, "HEAD~1")
			write(t, repo, "a.txt", "changed in the main worktree\n")
			run(t, repo, "add", "a.txt")
			write(t, linked, "dir/b.txt", "changed in the linked worktree\n")
			run(t, linked, "add", "-A")
			write(t, linked, "new", "new\n")
			return linked
		},
		"shallow clone": func(t *testing.T) string {
			clone := filepath.Join(t.TempDir(), "clone")
			run(t, "/", "clone", "-q", "--depth=1", "file://"+newRepo(t), clone)
			return clone
		},
		"alternates": func(t *testing.T) string {
			dir := sharedDir(t)
			if err := os.Rename(newRepo(t), filepath.Join(dir, "origin")); err != nil {
				t.Fatal(err)
			}
			run(t, dir, "clone", "-q", "--shared", "origin", "first")
			run(t, dir, "clone", "-q", "--shared", "first", "second")
			// A relative path leads on from there.
			write(t, dir, "second/.git/objects/info/alternates", "../../../first/.git/objects\n")
			write(t, dir, "second/own", "own\n")
			commit(t, filepath.Join(dir, "second"), "own")
			return filepath.Join(dir, "second")
		},
		"split index": func(t *testing.T) string {
			repo := newRepo(t)
			run(t, repo, "update-index", "--split-index", "--untracked-cache")
			write(t, repo, "staged", "staged\n")
			run(t, repo, "-c", "core.splitIndex=true", "add", "staged")
			run(t, repo, "config", "core.splitIndex", "true")
			run(t, repo, "config", "core.untrackedCache", "true")
			return repo
		},
		"sparse checkout": func(t *testing.T) string {
			repo := newRepo(t)
			write(t, repo, "other/c.txt", "three\n")
			commit(t, repo, "third")
			run(t, repo, "sparse-checkout", "set", "--cone", "--sparse-index", "dir")
			return repo
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := make(t)
			checkSame(t, repo, push(t, api.Workspace{Path: repo}))
		})
	}
}

// conflict stops in the middle of an operation with another branch.
func conflict(t *testing.T, repo string, args ...string) {
	t.Helper()
	run(t, repo, "checkout", "-q", "-b", "other", "HEAD~1")
	write(t, repo, "a.txt", "theirs\n")
	commit(t, repo, "theirs")
	run(t, repo, "checkout", "-q", "main")
	if _, err := tryRun(repo, args...); err == nil {
		t.Fatal("no conflict")
	}
}

func oddPath(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "odd \"path\":\n#\xff'")
	if err := os.Rename(newRepo(t), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustRemove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// What a user was in the middle of can be finished in the guest.
func TestUnfinishedWorkCanBeFinished(t *testing.T) {
	for name, finish := range map[string][]string{
		"merge":       {"commit", "-q", "--no-edit"},
		"rebase":      {"-c", "core.editor=true", "rebase", "--continue"},
		"cherry-pick": {"-c", "core.editor=true", "cherry-pick", "--continue"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := newRepo(t)
			conflict(t, repo, name, "other")
			guest := push(t, api.Workspace{Path: repo})
			write(t, guest, "a.txt", "both\n")
			run(t, guest, "add", "a.txt")
			run(t, guest, finish...)
			if status := run(t, guest, "status", "--porcelain"); status != "" {
				t.Errorf("status: %s", status)
			}
			run(t, guest, "fsck", "--full", "--no-dangling")
		})
	}
}

func TestStashCanBePopped(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	write(t, repo, "a.txt", "stashed\n")
	run(t, repo, "stash", "-q")
	write(t, repo, "a.txt", "stashed later\n")
	run(t, repo, "stash", "-q")
	guest := push(t, api.Workspace{Path: repo})
	run(t, guest, "stash", "pop", "-q", "stash@{1}")
	if got := read(t, guest, "a.txt"); got != "stashed\n" {
		t.Errorf("a.txt: %q", got)
	}
}

// A secret that was taken out of the history again doesn't go along.
func TestUnreachableObjectsStayOnTheHost(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	write(t, repo, "secret", "secret\n")
	commit(t, repo, "oops")
	id := strings.TrimSpace(run(t, repo, "rev-parse", "HEAD:secret"))
	run(t, repo, "reset", "-q", "--hard", "HEAD~1")
	guest := push(t, api.Workspace{Path: repo})
	if _, err := tryRun(guest, "cat-file", "-e", id); err == nil {
		t.Error("the secret is in the copy")
	}
}

// Packs that are sent as they are don't bring such a secret either, as far as
// anything tells that the history was rewritten.
func TestRewrittenHistoryStaysOnTheHost(t *testing.T) {
	for name, rewrite := range map[string]func(t *testing.T, repo string){
		"reflog": func(t *testing.T, repo string) {
			run(t, repo, "reset", "-q", "--hard", "HEAD~1")
			run(t, repo, "gc", "-q")
		},
		"cruft pack": func(t *testing.T, repo string) {
			run(t, repo, "reset", "-q", "--hard", "HEAD~1")
			run(t, repo, "reflog", "expire", "--expire=now", "--all")
			run(t, repo, "gc", "-q", "--cruft", "--prune=never")
		},
		"HEAD of another worktree": func(t *testing.T, repo string) {
			run(t, repo, "worktree", "add", "-q", "--detach", filepath.Join(t.TempDir(), "linked"))
			run(t, repo, "reset", "-q", "--hard", "HEAD~1")
			run(t, repo, "reflog", "expire", "--expire=now", "--all")
			run(t, repo, "gc", "-q")
		},
		"ORIG_HEAD": func(t *testing.T, repo string) {
			run(t, repo, "gc", "-q")
			run(t, repo, "reset", "-q", "--hard", "HEAD~1")
			run(t, repo, "reflog", "expire", "--expire=now", "--all")
		},
		"partial clone": func(t *testing.T, repo string) {
			run(t, repo, "config", "extensions.partialClone", "origin")
			run(t, repo, "config", "core.repositoryFormatVersion", "1")
			run(t, repo, "reset", "-q", "--hard", "HEAD~1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := newRepo(t)
			write(t, repo, "secret", "secret\n")
			commit(t, repo, "oops")
			id := strings.TrimSpace(run(t, repo, "rev-parse", "HEAD:secret"))
			rewrite(t, repo)
			guest := pushBig(t, repo)
			if _, err := tryRun(guest, "cat-file", "-e", id); err == nil {
				t.Error("the secret is in the copy")
			}
			run(t, guest, "fsck", "--full", "--no-dangling")
		})
	}
}

// pushBig is push, for which every history is a big one.
func pushBig(t *testing.T, repo string) string {
	t.Helper()
	plan, err := Inspect(t.Context(), api.Workspace{Path: repo})
	if err != nil {
		t.Fatal(err)
	}
	plan.big = 0
	guest := filepath.Join(t.TempDir(), "guest")
	err = plan.Push(t.Context(), func(_ context.Context, _ string, r io.Reader) error { return extract(guest, r) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	return guest
}

func TestPartialClone(t *testing.T) {
	for _, filter := range []string{"blob:none", "tree:0"} {
		t.Run(filter, func(t *testing.T) {
			t.Parallel()
			origin := newRepo(t)
			run(t, origin, "config", "uploadpack.allowFilter", "true")
			run(t, origin, "config", "uploadpack.allowAnySHA1InWant", "true")
			clone := filepath.Join(t.TempDir(), "clone")
			run(t, "/", "clone", "-q", "--filter="+filter, "file://"+origin, clone)
			write(t, clone, "staged", "staged\n")
			run(t, clone, "add", "staged")

			guest := push(t, api.Workspace{Path: clone})
			run(t, guest, "fsck", "--full", "--no-dangling")
			if got, want := run(t, guest, "status", "--porcelain"), run(t, clone, "status", "--porcelain"); got != want {
				t.Errorf("status %q, want %q", got, want)
			}
			// What is missing comes from the origin when it is needed.
			if got := run(t, guest, "show", "HEAD~1:a.txt"); got != "one\n" {
				t.Errorf("a.txt was %q", got)
			}
		})
	}
}

// A big history is sent as the packs that it is in.
func TestPacksAreReused(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	run(t, repo, "gc", "-q")
	write(t, repo, "rewritten", "what isn't packed tells nothing of the packs\n")
	commit(t, repo, "rewritten")
	run(t, repo, "reset", "-q", "--hard", "HEAD~1")
	write(t, repo, "loose", "loose\n")
	commit(t, repo, "loose")
	run(t, repo, "tag", "-a", "-m", "loose", "loose")
	write(t, repo, "a.txt", "stashed\n")
	run(t, repo, "stash", "-q")
	write(t, repo, "staged", "staged\n")
	run(t, repo, "add", "staged")

	guest := pushBig(t, repo)
	checkSame(t, repo, guest)
	packs := strings.Fields(run(t, guest, "count-objects", "-v"))
	if i := slices.Index(packs, "packs:"); packs[i+1] != "2" {
		t.Errorf("not two packs: %v", packs)
	}
	original, err := filepath.Glob(filepath.Join(repo, ".git/objects/pack/*.pack"))
	if err != nil || len(original) != 1 || !exists(filepath.Join(guest, ".git/objects/pack", filepath.Base(original[0]))) {
		t.Errorf("the pack %v isn't in the copy: %v", original, err)
	}
}

// TestChangeWithinASecondIsSeen replaces a file by another of the same size in
// the second in which the index was written. The host's git sees another
// inode, at which the guest's doesn't look.
func TestChangeWithinASecondIsSeen(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	second := time.Now().Add(-time.Hour).Truncate(time.Second)
	age := func(name string) {
		t.Helper()
		if err := os.Chtimes(filepath.Join(repo, name), second, second); err != nil {
			t.Fatal(err)
		}
	}
	write(t, repo, "file", "before")
	age("file")
	commit(t, repo, "a file")
	write(t, repo, "new", "after!")
	age("new")
	if err := os.Rename(filepath.Join(repo, "new"), filepath.Join(repo, "file")); err != nil {
		t.Fatal(err)
	}
	age(".git/index")

	guest := push(t, api.Workspace{Path: repo})
	if got, want := run(t, guest, "status", "--porcelain"), " M file\n"; got != want {
		t.Errorf("git status in the guest: %q, want %q", got, want)
	}
}
