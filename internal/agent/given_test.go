package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/guest"
)

func TestGivenFilesAreNeverForgotten(t *testing.T) {
	root := testImage{"home/ann/f": "", "root": "-> /home/ann"}.build(t)
	list := filepath.Join(t.TempDir(), "given")
	config := guest.BootConfig{
		Files:          []guest.File{{Path: "/root/.token"}, {Path: "etc/../etc/secret"}},
		AuthorizedKeys: []string{"ssh-ed25519 A a\n"},
	}
	want := given{
		Files: []string{"/home/ann/.token", "/etc/secret"}, Keys: []string{"ssh-ed25519 A a"},
		Now: []string{"/home/ann/.token", "/etc/secret"},
	}
	for range 2 {
		got, err := rememberGiven(root, list, config)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("given (-want +got):\n%s", diff)
		}
	}
	// Another boot gives other things.
	got, err := rememberGiven(root, list, guest.BootConfig{AuthorizedKeys: []string{"ssh-ed25519 B b"}})
	must(t, err)
	want.Keys, want.Now = append(want.Keys, "ssh-ed25519 B b"), nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("given (-want +got):\n%s", diff)
	}
	must(t, os.WriteFile(list, []byte("{"), 0o600))
	if got, err := rememberGiven(root, list, config); err == nil {
		t.Errorf("a broken list gives %+v", got)
	}
}

// A log-in that the host gave and has no longer goes; what the guest's user put
// into its place afterwards stays, and so does what the host only can't read.
func TestWithdrawnFilesGo(t *testing.T) {
	root := testImage{"root/own": "the user's"}.build(t)
	list := filepath.Join(t.TempDir(), "given")
	boot := func(config guest.BootConfig) {
		t.Helper()
		_, err := rememberGiven(root, list, config)
		must(t, err)
		if warnings := writeFiles(root, config.Files); len(warnings) > 0 {
			t.Errorf("warnings %q", warnings)
		}
	}
	there := func(name string, want bool) {
		t.Helper()
		if root.exists(name) != want {
			t.Errorf("%s is there: %v", name, !want)
		}
	}
	const login, other = "/root/.agent/auth.json", "/root/.other"
	boot(guest.BootConfig{Files: []guest.File{{Path: login}, {Path: other}}})
	boot(guest.BootConfig{KeepFiles: []string{login, "/root/own"}})
	there(login, true)
	there(other, false)
	boot(guest.BootConfig{})
	there(login, false)
	must(t, root.writeFile(login, []byte("the guest's own"), 0o600))
	boot(guest.BootConfig{})
	there(login, true)
	there("/root/own", true)
}

// What a guest makes of the places never keeps it from booting.
func TestOddPlacesForFiles(t *testing.T) {
	root := testImage{"root/.agent": "a file", "root/.other/auth.json/f": ""}.build(t)
	files := []guest.File{{Path: "/root/.agent/auth.json"}, {Path: "/root/.other/auth.json"}, {Path: "/root/good"}}
	list := filepath.Join(t.TempDir(), "given")
	for range 2 {
		_, err := rememberGiven(root, list, guest.BootConfig{Files: files})
		must(t, err)
		if got := writeFiles(root, files); len(got) != 2 || !strings.Contains(got[0], files[0].Path) {
			t.Errorf("warnings %q", got)
		}
	}
	_, err := rememberGiven(root, list, guest.BootConfig{})
	must(t, err)
	if !root.exists("/root/.other/auth.json/f") || root.exists("/root/good") {
		t.Error("the wrong one was withdrawn")
	}
}

func TestRuntimeSurvivesTheWorker(t *testing.T) {
	want := runtime{Init: "/sbin/init", InstallSSH: true, RealDirs: []string{"/root"}, Given: given{Files: []string{"/f"}, Keys: []string{"k"}}}
	f, err := want.save()
	must(t, err)
	defer f.Close()
	for range 2 { // each worker reads it
		got, err := loadRuntime(f)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("runtime (-want +got):\n%s", diff)
		}
	}
}
