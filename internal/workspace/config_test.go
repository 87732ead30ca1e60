package workspace

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
)

func TestWithoutCredentials(t *testing.T) {
	for url, want := range map[string]string{
		"https://example.com/a/b.git":                            "https://example.com/a/b.git",
		"https://me@example.com/a.git":                           "https://example.com/a.git",
		"https://me:token@example.com:8443/a.git":                "https://example.com:8443/a.git",
		"https://me:p@ss@example.com/a@b.git":                    "https://example.com/a@b.git",
		"https://me:pa/ss@example.com/a.git":                     "https://example.com/a.git",
		"https://me:p?a#ss@example.com":                          "https://example.com",
		"https://me:%zz@example.com/":                            "https://example.com/",
		"https://example.com/a.git?private_token=x&ref=y":        "https://example.com/a.git?ref=y",
		"https://example.com/a.git?access_token=x":               "https://example.com/a.git",
		"https://example.com:443/@scope/a.git":                   "https://example.com:443/@scope/a.git",
		"https://[::1]:80/@scope/a.git":                          "https://[::1]:80/@scope/a.git",
		"HTTPS://me:token@example.com/a.git":                     "HTTPS://example.com/a.git",
		"ssh://git@example.com/a.git":                            "ssh://git@example.com/a.git",
		"ssh://git:secret@example.com:22/a.git":                  "ssh://git@example.com:22/a.git",
		"git@example.com:a/b.git":                                "git@example.com:a/b.git",
		"/srv/git/a.git":                                         "/srv/git/a.git",
		"../a.git":                                               "../a.git",
		"file:///srv/a@b.git":                                    "file:///srv/a@b.git",
		"helper::https://me:token@example.com/a.git":             "helper::https://example.com/a.git",
		"codecommit::eu-west-1://profile@repo":                   "codecommit::eu-west-1://repo",
		"+refs/heads/*:refs/remotes/origin/*":                    "+refs/heads/*:refs/remotes/origin/*",
		"https://oauth2:glpat-x@example.com/a.git?x=1&api_key=2": "https://example.com/a.git?x=1",
	} {
		if got := withoutCredentials(url); got != want {
			t.Errorf("%s: got %s, want %s", url, got, want)
		}
	}
}

func TestGuestConfig(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	secret := filepath.Join(t.TempDir(), "included")
	write(t, filepath.Dir(secret), "included", "[http]\n\textraHeader = secret\n[user]\n\temail = secret@example.com\n")
	ran := filepath.Join(t.TempDir(), "ran")
	for _, kv := range [][2]string{
		{"user.email", "work@example.com"},
		{"remote.origin.url", "https://me:secret@example.com/a.git"},
		{"remote.origin.pushurl", "git@example.com:a.git"},
		{"remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"},
		{"remote.origin.proxy", "http://me:secret@proxy"},
		{"remote.origin.uploadpack", "touch " + ran},
		{`remote.odd "name\.url`, "https://example.com/odd"},
		{"branch.main.remote", "https://secret@example.com/a.git"},
		{"branch.main.merge", "refs/heads/main"},
		{"branch.main.description", "line one\nline \"two\" \\ # ; \t end "},
		{"submodule.x.update", "!touch " + ran},
		{"submodule.x.url", "https://secret@example.com/x"},
		{"http.https://example.com/.extraheader", "secret"},
		{"credential.helper", "!echo secret"},
		{"core.sshCommand", "touch " + ran},
		{"core.fsmonitor", "touch " + ran},
		{"core.hooksPath", "/tmp/hooks-secret"},
		{"core.pager", "secret"},
		{"core.worktree", repo},
		{"alias.x", "!secret"},
		{"filter.x.clean", "touch " + ran},
		{"include.path", secret},
	} {
		run(t, repo, "config", kv[0], kv[1])
	}
	write(t, repo, ".git/hooks/post-index-change", "#!/bin/sh\ntouch "+ran+"\n")
	if err := os.Chmod(filepath.Join(repo, ".git/hooks/post-index-change"), 0o755); err != nil {
		t.Fatal(err)
	}

	guest := push(t, api.Workspace{Path: repo})
	if exists(ran) {
		t.Error("a program of the repository's configuration ran")
	}
	if text := read(t, guest, ".git/config"); strings.Contains(text, "secret") || strings.Contains(text, ran) {
		t.Errorf("secrets in:\n%s", text)
	}
	for key, want := range map[string]string{
		"user.name":               `Ann "A" Other`,
		"user.email":              "work@example.com",
		"remote.origin.url":       "https://example.com/a.git",
		"remote.origin.pushurl":   "git@example.com:a.git",
		"remote.origin.fetch":     "+refs/heads/*:refs/remotes/origin/*",
		`remote.odd "name\.url`:   "https://example.com/odd",
		"branch.main.remote":      "https://example.com/a.git",
		"branch.main.description": "line one\nline \"two\" \\ # ; \t end ",
		"core.trustctime":         "false",
		"core.checkstat":          "minimal",
		"core.bare":               "false",
	} {
		if got := strings.TrimSuffix(run(t, guest, "config", "--local", "--get", key), "\n"); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	names := strings.Fields(run(t, guest, "config", "--local", "--name-only", "--list"))
	for _, key := range []string{"core.worktree", "core.pager", "alias.x", "filter.x.clean", "submodule.x.update", "credential.helper"} {
		if slices.Contains(names, key) {
			t.Errorf("%s was copied", key)
		}
	}
	if exists(filepath.Join(guest, ".git/hooks")) {
		t.Error("hooks were copied")
	}
}

func TestIgnorePatternsGoAlong(t *testing.T) {
	repo := newRepo(t)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	write(t, os.Getenv("XDG_CONFIG_HOME"), "git/ignore", "*.swp")
	write(t, repo, ".git/info/exclude", "local/\n")
	guest := push(t, api.Workspace{Path: repo})
	mustRemove(t, os.Getenv("XDG_CONFIG_HOME"), "git/ignore") // the guest has none
	write(t, guest, "x.swp", "")
	write(t, guest, "local/x", "")
	if got := run(t, guest, "status", "--porcelain"); got != "" {
		t.Errorf("status %q", got)
	}
}

// A repository from a stranger can't have other files of the host copied.
func TestLinksOutOfTheGitDirectoryAreNotFollowed(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	outside := t.TempDir()
	write(t, outside, "secret", "secret\n")
	for _, name := range []string{".git/MERGE_MSG", ".git/info/exclude"} {
		if err := os.RemoveAll(filepath.Join(repo, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(outside, "secret"), filepath.Join(repo, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(repo, ".git/sequencer")); err != nil {
		t.Fatal(err)
	}
	run(t, repo, "config", "core.excludesFile", filepath.Join(outside, "secret"))
	guest := push(t, api.Workspace{Path: repo})
	for _, name := range []string{".git/MERGE_MSG", ".git/info/exclude", ".git/sequencer/secret"} {
		if data, err := os.ReadFile(filepath.Join(guest, name)); err == nil && strings.Contains(string(data), "secret") {
			t.Errorf("%s was copied", name)
		}
	}
}
