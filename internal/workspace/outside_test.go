package workspace

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
)

// newPrivate makes a repository that nobody has asked to copy.
func newPrivate(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "private")
	run(t, "/", "init", "-q", dir)
	write(t, dir, "private.txt", "very private\n")
	commit(t, dir, "private")
	run(t, dir, "gc", "-q")
	return dir
}

// replaceLink puts a symbolic link in the place of dir/name.
func replaceLink(t *testing.T, dir, name, target string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
		t.Fatal(err)
	}
}

// checkNothingPrivate checks that neither the files nor the objects of a copy
// have anything of a repository that newPrivate made.
func checkNothingPrivate(t *testing.T, guest, private string) {
	t.Helper()
	ids := strings.Fields(run(t, private, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)"))
	err := filepath.WalkDir(guest, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == guest {
			return fs.SkipAll
		}
		if err != nil {
			return err
		}
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if bytes.Contains(data, []byte("very private")) {
				t.Errorf("%s was copied", path)
			}
		}
		if d.Name() != ".git" || !d.IsDir() {
			return nil
		}
		for _, id := range ids {
			if _, err := tryRun(filepath.Dir(path), "cat-file", "-e", id); err == nil {
				t.Errorf("object %s is in %s", id, path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What a repository leads to outside of it is not copied unless it points back.
func TestAnotherRepositoryIsNotCopied(t *testing.T) {
	t.Parallel()
	for name, lead := range map[string]func(t *testing.T, repo, private string){
		"gitfile": func(t *testing.T, repo, private string) {
			mustRemoveAll(t, filepath.Join(repo, ".git"))
			write(t, repo, ".git", "gitdir: "+private+"/.git\n")
		},
		"symlinked .git": func(t *testing.T, repo, private string) {
			replaceLink(t, repo, ".git", private+"/.git")
		},
		"commondir": func(t *testing.T, repo, private string) {
			write(t, repo, ".git/commondir", private+"/.git\n")
		},
		"worktree of its own making": func(t *testing.T, repo, private string) {
			fake := filepath.Join(filepath.Dir(repo), "worktrees", "fake")
			if err := errors.Join(os.MkdirAll(filepath.Dir(fake), 0o755), os.Rename(filepath.Join(repo, ".git"), fake)); err != nil {
				t.Fatal(err)
			}
			write(t, repo, ".git", "gitdir: "+fake+"\n")
			write(t, fake, "gitdir", repo+"/.git\n")
			write(t, fake, "commondir", private+"/.git\n")
		},
		"objects": func(t *testing.T, repo, private string) {
			replaceLink(t, repo, ".git/objects", private+"/.git/objects")
			copyFile(t, private+"/.git/packed-refs", repo+"/.git/packed-refs")
		},
		"packs": func(t *testing.T, repo, private string) {
			replaceLink(t, repo, ".git/objects/pack", private+"/.git/objects/pack")
			copyFile(t, private+"/.git/packed-refs", repo+"/.git/packed-refs")
		},
		"one pack": func(t *testing.T, repo, private string) {
			packs, err := filepath.Glob(private + "/.git/objects/pack/*")
			if err != nil || len(packs) < 2 {
				t.Fatal(packs, err)
			}
			for _, pack := range packs {
				replaceLink(t, repo, ".git/objects/pack/"+filepath.Base(pack), pack)
			}
			copyFile(t, private+"/.git/packed-refs", repo+"/.git/packed-refs")
		},
		"alternates": func(t *testing.T, repo, private string) {
			write(t, repo, ".git/objects/info/alternates", private+"/.git/objects\n")
			copyFile(t, private+"/.git/packed-refs", repo+"/.git/packed-refs")
		},
		"quoted alternates": func(t *testing.T, repo, private string) {
			write(t, repo, ".git/objects/info/alternates", "\""+private+"/.git/objects\"\n")
			write(t, repo, ".git/refs/heads/x", run(t, private, "rev-parse", "HEAD"))
		},
		// Of a partial clone, all objects are copied that are there.
		"alternates of a partial clone": func(t *testing.T, repo, private string) {
			write(t, repo, ".git/objects/info/alternates", private+"/.git/objects\n")
			run(t, repo, "config", "extensions.partialClone", "origin")
			run(t, repo, "config", "core.repositoryFormatVersion", "1")
		},
		"refs": func(t *testing.T, repo, private string) {
			run(t, private, "branch", "very-private")
			replaceLink(t, repo, ".git/refs", private+"/.git/refs")
		},
		"some refs": func(t *testing.T, repo, private string) {
			run(t, private, "branch", "very-private")
			replaceLink(t, repo, ".git/refs/heads/x", private+"/.git/refs/heads")
		},
		"config": func(t *testing.T, repo, private string) {
			run(t, private, "config", "remote.origin.url", "https://example.com/very private")
			replaceLink(t, repo, ".git/config", private+"/.git/config")
		},
		"included config": func(t *testing.T, repo, private string) {
			run(t, private, "config", "remote.origin.url", "https://example.com/very private")
			run(t, repo, "config", "include.path", private+"/.git/config")
		},
		"index": func(t *testing.T, repo, private string) {
			replaceLink(t, repo, ".git/index", private+"/.git/index")
		},
		"HEAD": func(t *testing.T, repo, private string) {
			run(t, private, "checkout", "-q", "-b", "very-private")
			replaceLink(t, repo, ".git/HEAD", private+"/.git/HEAD")
		},
		"packed-refs": func(t *testing.T, repo, private string) {
			run(t, private, "branch", "very-private")
			run(t, private, "pack-refs", "--all")
			replaceLink(t, repo, ".git/packed-refs", private+"/.git/packed-refs")
		},
		"stash's log": func(t *testing.T, repo, private string) {
			write(t, repo, "a.txt", "stashed\n")
			run(t, repo, "stash", "-q")
			write(t, private, "log", read(t, repo, ".git/logs/refs/stash")[:40]+" "+strings.TrimSpace(run(t, repo, "rev-parse", "refs/stash"))+" a <b> 1700000000 +0000\tvery private\n")
			replaceLink(t, repo, ".git/logs/refs/stash", private+"/log")
		},
		"core.worktree": func(t *testing.T, repo, private string) {
			run(t, repo, "config", "core.worktree", private)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			private := newPrivate(t)
			top, nested := newRepo(t), newRepo(t)
			lead(t, nested, private)
			inside := filepath.Join(top, "nested")
			if err := os.Rename(nested, inside); err != nil {
				t.Fatal(err)
			}
			// A path that named the repository has to follow it.
			if name == "worktree of its own making" {
				write(t, strings.TrimSpace(strings.TrimPrefix(read(t, inside, ".git"), "gitdir: ")), "gitdir", inside+"/.git\n")
			}
			for _, dir := range []string{top, inside} {
				guest, err := tryPush(t, api.Workspace{Path: dir})
				if err != nil && api.AsError(err).Hint == "" {
					t.Errorf("%s: %v", dir, err)
				}
				checkNothingPrivate(t, guest, private)
			}
		})
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	write(t, filepath.Dir(to), filepath.Base(to), read(t, filepath.Dir(from), filepath.Base(from)))
}

func mustRemoveAll(t testing.TB, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// What a user says is safe is copied from wherever it is.
func TestSafeDirectories(t *testing.T) {
	t.Parallel()
	for name, lead := range map[string]func(t *testing.T, repo, other string){
		"gitfile": func(t *testing.T, repo, other string) { write(t, repo, ".git", "gitdir: "+other+"/.git\n") },
		"symlink": func(t *testing.T, repo, other string) { replaceLink(t, repo, ".git", other+"/.git") },
		"objects": func(t *testing.T, repo, other string) { shareObjects(t, repo, other, "objects") },
		"packs":   func(t *testing.T, repo, other string) { shareObjects(t, repo, other, "objects/pack") },
		"alternates": func(t *testing.T, repo, other string) {
			run(t, "/", "clone", "-q", "--shared", other, repo)
			// git status tells how far the clone is behind.
			run(t, repo, "remote", "remove", "origin")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := newRepo(t)
			run(t, other, "gc", "-q")
			shared := sharedDir(t)
			if err := os.Rename(other, filepath.Join(shared, "other")); err != nil {
				t.Fatal(err)
			}
			repo := filepath.Join(t.TempDir(), "repo")
			if err := os.Mkdir(repo, 0o755); err != nil {
				t.Fatal(err)
			}
			lead(t, repo, filepath.Join(shared, "other"))
			run(t, repo, "reset", "-q", "--hard")
			checkSame(t, repo, push(t, api.Workspace{Path: repo}))
		})
	}
}

func shareObjects(t *testing.T, repo, other, what string) {
	t.Helper()
	run(t, repo, "init", "-q")
	replaceLink(t, repo, ".git/"+what, other+"/.git/"+what)
	copyFile(t, other+"/.git/packed-refs", repo+"/.git/packed-refs")
}

// A separate git directory that says where its working tree is points back.
func TestSeparateGitDirectory(t *testing.T) {
	t.Parallel()
	separate := filepath.Join(t.TempDir(), "separate")
	repo := newRepo(t, "--separate-git-dir="+separate)
	_, err := tryPush(t, api.Workspace{Path: repo})
	want := "git --git-dir=" + separate + " config core.worktree " + repo
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(api.AsError(err).Hint, want) {
		t.Fatalf("got %v", err)
	}
	run(t, repo, strings.Fields(want)[1:]...)
	checkSame(t, repo, push(t, api.Workspace{Path: repo}))
}

func TestMovedWorktree(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	dir := t.TempDir()
	run(t, repo, "worktree", "add", "-q", "-b", "linked", filepath.Join(dir, "before"))
	after := filepath.Join(dir, "after")
	if err := os.Rename(filepath.Join(dir, "before"), after); err != nil {
		t.Fatal(err)
	}
	_, err := tryPush(t, api.Workspace{Path: after})
	want := "git -C " + repo + "/.git worktree repair " + after
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(api.AsError(err).Hint, want) {
		t.Fatalf("got %v", err)
	}
	run(t, repo, strings.Fields(want)[1:]...)
	checkSame(t, after, push(t, api.Workspace{Path: after}))
}

// What a directory of the user's includes counts for the repositories in it.
func TestConditionalConfiguration(t *testing.T) {
	repo := newRepo(t)
	home := t.TempDir()
	write(t, home, "work", "[user]\n\temail = ann@work.example\n[core]\n\texcludesFile = "+home+"/ignore\n[core]\n\tautocrlf = input\n")
	write(t, home, "ignore", "*.swp\n")
	write(t, home, ".gitconfig", userConfig+"[includeIf \"gitdir:"+filepath.Dir(repo)+"/\"]\n\tpath = work\n")
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(home, ".gitconfig"))
	write(t, repo, "x.swp", "ignored\n")
	guest := push(t, api.Workspace{Path: repo})
	if got := strings.TrimSpace(run(t, guest, "config", "user.email")); got != "ann@work.example" {
		t.Errorf("user.email is %q", got)
	}
	if exists(filepath.Join(guest, "x.swp")) {
		t.Error("an ignored file was copied")
	}
	mustRemove(t, home, "work")
	write(t, guest, "x.swp", "made again\n")
	if got := run(t, guest, "status", "--porcelain"); got != "" {
		t.Errorf("status %q", got)
	}
}
