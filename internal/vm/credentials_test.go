package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm/vmmtest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const (
	opencodeLogin = ".local/share/opencode/auth.json"
	claudeLogin   = ".claude/.credentials.json"
	piLogin       = ".pi/agent/auth.json"
)

// putLogin writes a file below home.
func putLogin(t *testing.T, home, name, content string) {
	t.Helper()
	path := filepath.Join(home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// One that is odd never keeps the others out of a VM.
func TestOddCredentials(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	place := func(home string) string { return filepath.Join(home, claudeLogin) }
	for name, tt := range map[string]struct {
		make func(home string) error
		warn string
	}{
		"directory": {func(home string) error { return os.Mkdir(place(home), 0o700) }, "not a regular file"},
		"pipe":      {func(home string) error { return unix.Mkfifo(place(home), 0o600) }, "not a regular file"},
		"link out of the home": {
			func(home string) error { return os.Symlink(outside, place(home)) }, "outside of your home",
		},
		"link to itself": {func(home string) error { return os.Symlink(place(home), place(home)) }, "too many links"},
		"endless":        {func(home string) error { return os.WriteFile(place(home), make([]byte, 2<<20), 0o600) }, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			putLogin(t, home, piLogin, "pi")
			if err := os.Mkdir(filepath.Join(home, ".claude"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := tt.make(home); err != nil {
				t.Fatal(err)
			}
			got := ReadCredentials(home)
			want := []guest.File{{Path: "/root/" + piLogin, Mode: 0o600, Data: []byte("pi")}}
			if diff := cmp.Diff(want, got.Files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], tt.warn) || !strings.Contains(got.Warnings[0], "~/"+claudeLogin) {
				t.Errorf("warnings %q", got.Warnings)
			}
			if diff := cmp.Diff([]string{"/root/" + claudeLogin}, got.Unreadable); diff != "" {
				t.Errorf("unreadable (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCredentialsWithinTheHome(t *testing.T) {
	home := t.TempDir()
	putLogin(t, home, "dotfiles/claude.json", "linked")
	putLogin(t, home, ".pi", "a file where a folder is expected")
	if err := os.Mkdir(filepath.Join(home, ".claude"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(home, "dotfiles/claude.json"), filepath.Join(home, claudeLogin)); err != nil {
		t.Fatal(err)
	}
	got := ReadCredentials(home)
	want := Credentials{Files: []guest.File{{Path: "/root/" + claudeLogin, Mode: 0o600, Data: []byte("linked")}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A start goes on without a log-in, and says so.
func TestStartWithOddCredential(t *testing.T) {
	w := newWorld(t)
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, opencodeLogin), 0o700); err != nil {
		t.Fatal(err)
	}
	var config guest.BootConfig
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		agent := vmmtest.NewAgent(vm)
		agent.OnBoot = func(c guest.BootConfig) error { config = c; return nil }
		return agent.Serve
	})
	w.config.Credentials = func() Credentials { return ReadCredentials(home) }
	w.restart(t)
	var notices []string
	_, err := w.Create(t.Context(), api.CreateVM{Name: "web"}, func(p api.Progress) {
		if p.Notice != "" {
			notices = append(notices, p.Notice)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(notices) != 1 || !strings.Contains(notices[0], opencodeLogin) {
		t.Errorf("notices %q", notices)
	}
	if diff := cmp.Diff([]string{"/root/" + opencodeLogin}, config.KeepFiles); diff != "" {
		t.Errorf("files to keep (-want +got):\n%s", diff)
	}
}
