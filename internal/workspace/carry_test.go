package workspace

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
)

// newForked makes a repository on main with another branch, "other", that
// changes, deletes and adds something.
func newForked(t *testing.T) string {
	t.Helper()
	repo := newRepo(t)
	for _, name := range []string{"kept", "kept2", "kept3", "gone", "runs", "both", "line\nend \xe9"} {
		write(t, repo, name, name+"\n")
	}
	if err := errors.Join(os.Chmod(filepath.Join(repo, "runs"), 0o755), os.Symlink("kept", filepath.Join(repo, "link"))); err != nil {
		t.Fatal(err)
	}
	commit(t, repo, "kinds")
	run(t, repo, "switch", "-q", "-c", "other")
	write(t, repo, "a.txt", "other\n")
	write(t, repo, "both", "their side\n")
	write(t, repo, "new/n.txt", "new\n")
	write(t, repo, "new/script", "#!/bin/sh\n")
	if err := errors.Join(os.Chmod(filepath.Join(repo, "new/script"), 0o755), os.Symlink("n.txt", filepath.Join(repo, "new/link")),
		os.Remove(filepath.Join(repo, "gone")), os.Remove(filepath.Join(repo, "dir/b.txt"))); err != nil {
		t.Fatal(err)
	}
	commit(t, repo, "other side")
	run(t, repo, "switch", "-q", "main")
	return repo
}

// twinOf copies a repository with all that is in it.
func twinOf(t *testing.T, repo string) string {
	t.Helper()
	twin := filepath.Join(t.TempDir(), "twin")
	if out, err := exec.Command("cp", "-a", repo, twin).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return twin
}

// contents maps what belongs to a working tree to what it is.
func contents(t *testing.T, repo string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, name := range fields([]byte(run(t, repo, "ls-files", "-z", "--cached", "--others", "--exclude-standard"))) {
		path := filepath.Join(repo, name)
		info, err := os.Lstat(path)
		switch {
		case err != nil:
			all[name] = "absent"
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				t.Fatal(err)
			}
			all[name] = "link to " + target
		case info.Mode().IsRegular():
			all[name] = info.Mode().Perm().String() + " " + read(t, repo, name)
		}
	}
	return all
}

// TestWorkGoesAlong: what isn't committed goes over to another commit as git
// switch takes it, and what that refuses is refused.
func TestWorkGoesAlong(t *testing.T) {
	t.Parallel()
	git := func(args ...string) func(*testing.T, string) {
		return func(t *testing.T, repo string) { run(t, repo, args...) }
	}
	put := func(name, content string) func(*testing.T, string) {
		return func(t *testing.T, repo string) { write(t, repo, name, content) }
	}
	forked := newForked(t)
	must := func(f func(repo string) error) func(*testing.T, string) {
		return func(t *testing.T, repo string) {
			if err := f(repo); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		work    []func(*testing.T, string)
		refused string // what the error names; "" if it goes along
	}{
		"nothing":         {nil, ""},
		"modified":        {[]func(*testing.T, string){put("kept", "changed\n")}, ""},
		"staged":          {[]func(*testing.T, string){put("kept", "changed\n"), git("add", "kept")}, ""},
		"staged and more": {[]func(*testing.T, string){put("kept", "changed\n"), git("add", "kept"), put("kept", "again\n")}, ""},
		"deleted":         {[]func(*testing.T, string){must(func(r string) error { return os.Remove(filepath.Join(r, "kept")) })}, ""},
		"deletion staged": {[]func(*testing.T, string){git("rm", "-q", "kept")}, ""},
		"removed, kept":   {[]func(*testing.T, string){git("rm", "-q", "--cached", "kept")}, ""},
		"untracked":       {[]func(*testing.T, string){put("mine", "mine\n"), put("new-dir/mine", "mine\n")}, ""},
		"ignored":         {[]func(*testing.T, string){put(".git/info/exclude", "n.txt\n"), put("new/n.txt", "mine\n")}, ""},
		"added":           {[]func(*testing.T, string){put("mine", "mine\n"), git("add", "mine")}, ""},
		"intended":        {[]func(*testing.T, string){put("mine", "mine\n"), git("add", "-N", "mine")}, ""},
		"renamed":         {[]func(*testing.T, string){git("mv", "kept", "renamed")}, ""},
		"executable":      {[]func(*testing.T, string){must(func(r string) error { return os.Chmod(filepath.Join(r, "kept"), 0o755) })}, ""},
		"not executable":  {[]func(*testing.T, string){must(func(r string) error { return os.Chmod(filepath.Join(r, "runs"), 0o644) })}, ""},
		"link": {[]func(*testing.T, string){must(func(r string) error {
			return errors.Join(os.Remove(filepath.Join(r, "link")), os.Symlink("gone", filepath.Join(r, "link")))
		})}, ""},
		"file to directory": {[]func(*testing.T, string){git("rm", "-q", "kept"), put("kept/in", "in\n"), git("add", "kept")}, ""},
		"odd name":          {[]func(*testing.T, string){put("line\nend \xe9", "changed\n"), put("  sp \t", "x")}, ""},
		"all at once": {[]func(*testing.T, string){
			put("kept", "changed\n"), git("add", "kept"), git("mv", "kept2", "moved"), git("rm", "-q", "kept3"), put("mine", "mine\n"),
			must(func(r string) error { return os.Chmod(filepath.Join(r, "runs"), 0o644) }),
		}, ""},
		"staged as there":          {[]func(*testing.T, string){put("both", "their side\n"), git("add", "both")}, ""},
		"staged as there and more": {[]func(*testing.T, string){put("both", "their side\n"), git("add", "both"), put("both", "mine\n")}, ""},
		"added as there":           {[]func(*testing.T, string){put("new/n.txt", "new\n"), git("add", "new/n.txt")}, ""},
		"added as there, deleted": {[]func(*testing.T, string){
			put("new/n.txt", "new\n"), git("add", "new/n.txt"), must(func(r string) error { return os.Remove(filepath.Join(r, "new/n.txt")) }),
		}, ""},
		"deleted as there": {[]func(*testing.T, string){git("rm", "-q", "gone", "dir/b.txt")}, ""},
		"all as there":     {[]func(*testing.T, string){git("restore", "--source=other", "--staged", "--worktree", ".")}, ""},
		"touched":          {[]func(*testing.T, string){put("both", "both\n")}, ""},

		"modified there":             {[]func(*testing.T, string){put("a.txt", "mine\n")}, "\na.txt"},
		"staged there":               {[]func(*testing.T, string){put("both", "mine\n"), git("add", "both")}, "\nboth"},
		"modified, gone there":       {[]func(*testing.T, string){put("gone", "mine\n")}, "\ngone"},
		"deleted there":              {[]func(*testing.T, string){git("rm", "-q", "both")}, "\nboth"},
		"renamed there":              {[]func(*testing.T, string){git("mv", "both", "renamed")}, "\nboth"},
		"untracked there":            {[]func(*testing.T, string){put("new/n.txt", "mine\n")}, "\nnew/n.txt"},
		"a file for a folder":        {[]func(*testing.T, string){put("new", "mine\n")}, "\nnew"},
		"a folder for a file":        {[]func(*testing.T, string){put("new/n.txt/mine", "mine\n")}, "\nnew/n.txt/mine"},
		"removed as there, kept":     {[]func(*testing.T, string){git("rm", "-q", "--cached", "gone")}, "\ngone"},
		"removed as there, intended": {[]func(*testing.T, string){git("rm", "-q", "--cached", "gone"), git("add", "-N", "gone")}, "\ngone"},
		"not executable there":       {[]func(*testing.T, string){put("new/script", "#!/bin/sh\n"), git("add", "new/script")}, "\nnew/script"},
		"in conflict": {[]func(*testing.T, string){
			put("kept", "changed\n"), git("stash", "-q"), put("kept", "otherwise\n"), git("commit", "-q", "-a", "-m", "otherwise"),
			func(_ *testing.T, repo string) { _, _ = tryRun(repo, "stash", "apply") },
		}, "in conflict"},
		"a merge": {[]func(*testing.T, string){
			git("switch", "-q", "-c", "third"), put("kept2", "third\n"), git("commit", "-q", "-a", "-m", "third"), git("switch", "-q", "main"),
			git("merge", "-q", "--no-commit", "--no-ff", "third"),
		}, "a merge"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := twinOf(t, forked)
			for _, step := range c.work {
				step(t, repo)
			}
			before := contents(t, repo)
			twin := twinOf(t, repo)
			_, switchErr := tryRun(twin, "switch", "-c", "b", "other")
			guest, err := tryPush(t, api.Workspace{Path: repo, Branch: "b", From: "other"})
			if (switchErr != nil) != (c.refused != "") {
				t.Errorf("git switch: %v", switchErr)
			}
			if diff := cmp.Diff(before, contents(t, repo)); diff != "" {
				t.Errorf("the host's own working tree changed:\n%s", diff)
			}
			if c.refused != "" {
				if !errors.Is(err, api.ErrConflict) || !strings.Contains(err.Error(), c.refused) || !strings.Contains(api.AsError(err).Hint, "--leave-changes") {
					t.Errorf("%v\nhint: %s", err, api.AsError(err).Hint)
				}
				guest = push(t, api.Workspace{Path: repo, Branch: "b", From: "other", LeaveChanges: true})
				if got := run(t, guest, "status", "--porcelain", "--branch"); got != "## b\n" {
					t.Errorf("with what it says: status %q", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"status", "--porcelain=v2", "--branch", "-z"}, {"ls-files", "--stage", "-z"}} {
				if diff := cmp.Diff(run(t, twin, args...), run(t, guest, args...)); diff != "" {
					t.Errorf("git %v (-switch +guest):\n%s", args, diff)
				}
			}
			want := contents(t, twin)
			if name == "ignored" {
				delete(want, "new/n.txt") // git switch overwrites it, too
				want["new/n.txt"] = contents(t, guest)["new/n.txt"]
			}
			if diff := cmp.Diff(want, contents(t, guest)); diff != "" {
				t.Errorf("files (-switch +guest):\n%s", diff)
			}
			checkHistory(t, repo, guest)
		})
	}
}

// TestWorkGoesAlongFromNoCommit: before there is a commit, all is uncommitted.
func TestWorkGoesAlongFromNoCommit(t *testing.T) {
	t.Parallel()
	repo := newForked(t)
	run(t, repo, "switch", "-q", "--orphan", "unborn")
	write(t, repo, "mine", "mine\n")
	run(t, repo, "add", "mine")
	guest := push(t, api.Workspace{Path: repo, Branch: "b", From: "other"})
	if got := run(t, guest, "status", "--porcelain", "--branch"); got != "## b\nA  mine\n" {
		t.Errorf("status %q", got)
	}
	write(t, repo, "a.txt", "mine\n")
	if _, err := tryPush(t, api.Workspace{Path: repo, Branch: "b", From: "other"}); !errors.Is(err, api.ErrConflict) {
		t.Errorf("got %v", err)
	}
}

// TestWorkInSubmodulesGoesAlong: a submodule that the commit leaves alone goes
// along as it is, one that it changes only if there is nothing to lose.
func TestWorkInSubmodulesGoesAlong(t *testing.T) {
	t.Parallel()
	super := newSuper(t) // with changes in modules/sub and below
	sub := filepath.Join(super, "modules/sub")
	run(t, super, "switch", "-q", "-c", "other")
	write(t, super, "only-there", "other\n")
	run(t, super, "add", "only-there")
	run(t, super, "commit", "-q", "-m", "other")
	run(t, super, "switch", "-q", "main")

	guest := push(t, api.Workspace{Path: super, Branch: "b", From: "other"})
	checkSame(t, sub, filepath.Join(guest, "modules/sub"))
	if !exists(filepath.Join(guest, "only-there")) {
		t.Error("the superproject isn't at the other commit")
	}

	was := run(t, sub, "rev-parse", "HEAD")
	run(t, super, "tag", "before")
	commit(t, sub, "newer")
	run(t, super, "add", "modules/sub")
	run(t, super, "commit", "-q", "-m", "newer submodule")
	inner := filepath.Join(sub, "deep/inner")
	refused := func(what string) {
		t.Helper()
		_, err := tryPush(t, api.Workspace{Path: super, Branch: "b", From: "before"})
		if !errors.Is(err, api.ErrConflict) || !strings.Contains(err.Error(), "\nmodules/sub") {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("untracked below it")
	if err := os.Remove(filepath.Join(inner, "untracked")); err != nil {
		t.Fatal(err)
	}
	write(t, inner, "a.txt", "lost?\n")
	refused("changed below it")
	run(t, inner, "checkout", "-q", "a.txt")
	guest = push(t, api.Workspace{Path: super, Branch: "b", From: "before"})
	if got := run(t, filepath.Join(guest, "modules/sub"), "rev-parse", "HEAD"); got != was {
		t.Errorf("submodule at %s, want %s", got, was)
	}
	write(t, sub, "a.txt", "lost?\n")
	refused("changed")
	commit(t, sub, "newest")
	refused("moved on")
	run(t, super, "add", "modules/sub")
	refused("staged")
}

// TestSubmoduleStagedAsThere: a submodule that is staged as the other commit has
// it goes along with all that is in it.
func TestSubmoduleStagedAsThere(t *testing.T) {
	t.Parallel()
	super := newSuper(t)
	sub := filepath.Join(super, "modules/sub")
	run(t, super, "tag", "before")
	run(t, sub, "tag", "before")
	commit(t, sub, "newer")
	run(t, super, "commit", "-q", "-a", "-m", "newer submodule")
	run(t, sub, "switch", "-q", "--detach", "before")
	run(t, super, "add", "modules/sub")
	write(t, sub, "b.txt", "mine\n")
	twin := twinOf(t, super)
	run(t, twin, "switch", "-q", "-c", "b", "before")
	guest := push(t, api.Workspace{Path: super, Branch: "b", From: "before"})
	for _, dir := range []string{"", "modules/sub", "modules/sub/deep/inner"} {
		if diff := cmp.Diff(contents(t, filepath.Join(twin, dir)), contents(t, filepath.Join(guest, dir))); diff != "" {
			t.Errorf("files of %q (-switch +guest):\n%s", dir, diff)
		}
	}
}

func TestWorkGoesAlongInASparseCheckout(t *testing.T) {
	t.Parallel()
	repo := newForked(t)
	write(t, repo, "far/c.txt", "three\n")
	commit(t, repo, "third")
	run(t, repo, "switch", "-q", "-c", "later")
	write(t, repo, "far/c.txt", "four\n")
	write(t, repo, "dir/b.txt", "four\n")
	commit(t, repo, "fourth")
	run(t, repo, "switch", "-q", "main")
	run(t, repo, "sparse-checkout", "set", "--cone", "dir")
	write(t, repo, "dir/mine", "mine\n")
	guest := push(t, api.Workspace{Path: repo, Branch: "b", From: "later"})
	if got := run(t, guest, "status", "--porcelain"); got != "?? dir/mine\n" || exists(filepath.Join(guest, "far/c.txt")) {
		t.Errorf("status %q", got)
	}
	if got := read(t, guest, "dir/b.txt"); got != "four\n" {
		t.Errorf("dir/b.txt has %q", got)
	}
}

// TestCarriedWorkIsTold: the command line says that something went along.
func TestCarriedWorkIsTold(t *testing.T) {
	t.Parallel()
	repo := newForked(t)
	write(t, repo, "mine", "mine\n")
	plan, err := Inspect(t.Context(), api.Workspace{Path: repo, Branch: "b", From: "other"})
	if err != nil || !strings.Contains(plan.Info().Note, "uncommitted work (1 path) was taken to other") {
		t.Errorf("%+v, %v", plan, err)
	}
}
