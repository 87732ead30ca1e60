package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
)

// withUserConfig runs the test with more in the user's configuration.
func withUserConfig(t *testing.T, more string) (home string) {
	t.Helper()
	home = t.TempDir()
	write(t, home, ".gitconfig", userConfig+more)
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(home, ".gitconfig"))
	return home
}

// What a repository ignores by a file of its own stays on the host.
func TestOwnExcludesFile(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		file, setting string
		inGuest       string // git status of the guest once the file is made again
	}{
		"in the working tree": {"config/ignore", "config/ignore", ""},
		"by its full path":    {"config/ignore", "TOP/config/ignore", ""},
		"in .git":             {".git/ignore", ".git/ignore", "?? secret.env\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := newRepo(t)
			write(t, repo, tt.file, "*.env\n")
			if tt.file != ".git/ignore" {
				commit(t, repo, "more")
			}
			run(t, repo, "config", "core.excludesFile", strings.ReplaceAll(tt.setting, "TOP", repo))
			write(t, repo, "secret.env", "secret\n")
			plan, err := Inspect(t.Context(), api.Workspace{Path: repo})
			if err != nil || plan.Info().Note != "" {
				t.Errorf("%+v, %v", plan.Info(), err)
			}
			guest := push(t, api.Workspace{Path: repo})
			if exists(filepath.Join(guest, "secret.env")) {
				t.Error("an ignored file was copied")
			}
			write(t, guest, "secret.env", "")
			if got := run(t, guest, "status", "--porcelain"); got != tt.inGuest {
				t.Errorf("git status in the guest: %q", got)
			}
		})
	}
}

// A file of patterns elsewhere isn't read, and the user is told.
func TestOwnExcludesFileElsewhere(t *testing.T) {
	repo := newRepo(t)
	outside := t.TempDir()
	write(t, outside, "ignore", "*.env\n")
	if err := os.Symlink(filepath.Join(outside, "ignore"), filepath.Join(repo, "link")); err != nil {
		t.Fatal(err)
	}
	write(t, repo, "x.env", "x\n")
	for _, path := range []string{filepath.Join(outside, "ignore"), "link"} {
		run(t, repo, "config", "core.excludesFile", path)
		plan, err := Inspect(t.Context(), api.Workspace{Path: repo})
		if err != nil || !strings.Contains(plan.Info().Note, "core.excludesFile") {
			t.Errorf("%s: %+v, %v", path, plan.Info(), err)
		}
		if guest := push(t, api.Workspace{Path: repo}); !exists(filepath.Join(guest, "x.env")) {
			t.Errorf("%s was read", path)
		}
	}
	// The user can say that it is theirs.
	withUserConfig(t, "[banger]\n\tsafeDirectory = "+outside+"\n")
	plan, err := Inspect(t.Context(), api.Workspace{Path: repo})
	if err != nil || plan.Info().Note != "" {
		t.Errorf("%+v, %v", plan.Info(), err)
	}
	if guest := push(t, api.Workspace{Path: repo}); exists(filepath.Join(guest, "x.env")) {
		t.Error("an ignored file was copied")
	}
}

// What a repository is the only one to know filters for looks modified where
// they aren't.
func TestOwnFiltersAreMentioned(t *testing.T) {
	repo := newRepo(t)
	run(t, repo, "config", "filter.git-crypt.clean", "cat")
	run(t, repo, "config", "filter.unused.clean", "cat")
	write(t, repo, ".gitattributes", "*.key filter=git-crypt diff=git-crypt\n*.big filter=lfs\n")
	plan, err := Inspect(t.Context(), api.Workspace{Path: repo})
	if err != nil || !strings.Contains(plan.Info().Note, "git-crypt") || strings.Contains(plan.Info().Note, "unused") || strings.Contains(plan.Info().Note, "lfs") {
		t.Errorf("%+v, %v", plan.Info(), err)
	}
	withUserConfig(t, "[filter \"git-crypt\"]\n\tclean = cat\n")
	if plan, err = Inspect(t.Context(), api.Workspace{Path: repo}); err != nil || plan.Info().Note != "" {
		t.Errorf("%+v, %v", plan.Info(), err)
	}
}

// What the user includes for certain remotes counts for a repository that has
// one, together with what depends on where that is.
func TestConfigurationOfARemote(t *testing.T) {
	repo := newRepo(t)
	home := withUserConfig(t, "[includeIf \"hasconfig:remote.*.url:https://*@work.example/**\"]\n\tpath = work\n")
	write(t, home, "work", "[user]\n\temail = ann@work.example\n[includeIf \"gitdir:"+filepath.Dir(repo)+"/\"]\n\tpath = here\n")
	write(t, home, "here", "[user]\n\tname = Here\n")
	run(t, repo, "config", "remote.origin.url", "https://ann@work.example/a/b.git")
	if got := strings.TrimSpace(run(t, repo, "config", "user.email")); got != "ann@work.example" {
		t.Skipf("this git includes nothing by remotes: %q", got)
	}
	guest := push(t, api.Workspace{Path: repo})
	for key, want := range map[string]string{
		"user.email": "ann@work.example", "user.name": "Here", "remote.origin.url": "https://work.example/a/b.git",
	} {
		if got := strings.TrimSpace(run(t, guest, "config", "--local", "--get-all", key)); !strings.HasSuffix("\n"+got, "\n"+want) {
			t.Errorf("%s is %q", key, got)
		}
	}
	if got := run(t, guest, "config", "--local", "--get-all", "remote.origin.url"); strings.Count(got, "\n") != 1 {
		t.Errorf("URLs: %q", got)
	}
}

// The user's own file of patterns may be a link to wherever they keep it.
func TestIgnorePatternsBehindALink(t *testing.T) {
	for name, setting := range map[string]bool{"by default": false, "by a setting": true} {
		t.Run(name, func(t *testing.T) {
			repo := newRepo(t)
			dotfiles, config := t.TempDir(), t.TempDir()
			t.Setenv("XDG_CONFIG_HOME", config)
			write(t, dotfiles, "gitignore", "*.swp\n")
			replaceLink(t, config, "git/ignore", filepath.Join(dotfiles, "gitignore"))
			if setting {
				replaceLink(t, config, "elsewhere", filepath.Join(dotfiles, "gitignore"))
				mustRemove(t, config, "git/ignore")
				withUserConfig(t, "[core]\n\texcludesFile = "+config+"/elsewhere\n")
			}
			guest := push(t, api.Workspace{Path: repo})
			withUserConfig(t, "")
			mustRemoveAll(t, filepath.Join(config, "git/ignore")) // the guest has none
			write(t, guest, "x.swp", "")
			if got := run(t, guest, "status", "--porcelain"); got != "" {
				t.Errorf("status %q", got)
			}
		})
	}
}
