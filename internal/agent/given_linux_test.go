package agent

import (
	"os"
	"path/filepath"
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
	want := given{Files: []string{"/home/ann/.token", "/etc/secret"}, Keys: []string{"ssh-ed25519 A a"}}
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
	want.Keys = append(want.Keys, "ssh-ed25519 B b")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("given (-want +got):\n%s", diff)
	}
	must(t, os.WriteFile(list, []byte("{"), 0o600))
	if got, err := rememberGiven(root, list, config); err == nil {
		t.Errorf("a broken list gives %+v", got)
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
