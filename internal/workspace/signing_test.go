package workspace

import (
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/sshkey"
)

// The guest's git knows which key to sign with, and not where it is.
func TestSigningKeyGoesAlong(t *testing.T) {
	pair, err := sshkey.Generate("ann@laptop")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	write(t, home, ".ssh/id.pub", pair.Public)
	write(t, home, ".ssh/id", pair.Private)
	fields := strings.Fields(pair.Public)
	want := "key::" + fields[0] + " " + fields[1]
	for name, c := range map[string]struct{ config, own, want string }{
		"private half":     {"[gpg]\n\tformat = ssh\n[user]\n\tsigningkey = ~/.ssh/id\n", "", want},
		"public half":      {"[gpg]\n\tformat = ssh\n[user]\n\tsigningkey = " + home + "/.ssh/id.pub\n", "", want},
		"literal":          {"[gpg]\n\tformat = ssh\n[user]\n\tsigningkey = \"" + want + " a comment\"\n", "", want},
		"another format":   {"[user]\n\tsigningkey = ~/.ssh/id\n", "", ""},
		"no key":           {"[gpg]\n\tformat = ssh\n[user]\n\tsigningkey = /etc/passwd\n", "", ""},
		"the repository's": {"[gpg]\n\tformat = ssh\n", home + "/.ssh/id.pub", ""},
	} {
		t.Run(name, func(t *testing.T) {
			repo := newRepo(t)
			write(t, home, "gitconfig", c.config)
			t.Setenv("HOME", home)
			t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(home, "gitconfig"))
			if c.own != "" {
				run(t, repo, "config", "user.signingkey", c.own)
			}
			guest := push(t, api.Workspace{Path: repo})
			text := read(t, guest, ".git/config")
			got := ""
			if strings.Contains(text, "signingkey") {
				got = strings.TrimSpace(run(t, guest, "config", "--local", "user.signingkey"))
			}
			if got != c.want || strings.Contains(text, home) || strings.Contains(text, "PRIVATE") || strings.Contains(text, "gpgsign") {
				t.Errorf("got %q, want %q in\n%s", got, c.want, text)
			}
		})
	}
}
