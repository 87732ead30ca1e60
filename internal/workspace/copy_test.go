package workspace

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
)

// pushCopy copies a further directory into one of this machine.
func pushCopy(t *testing.T, c api.Copy) (api.WorkspaceInfo, string) {
	t.Helper()
	plan, err := InspectCopy(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	guest, err := tryPushPlan(t, plan)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Info(), guest
}

// filesIn lists what is in a directory but for directories.
func filesIn(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestCopyOfARepository(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	write(t, repo, "a.txt", "changed\n")
	write(t, repo, "untracked", "untracked\n")
	link := filepath.Join(t.TempDir(), "library")
	if err := os.Symlink(repo, link); err != nil {
		t.Fatal(err)
	}
	info, guest := pushCopy(t, api.Copy{Path: link, ReadOnly: true})
	if diff := cmp.Diff(api.WorkspaceInfo{HostPath: repo, GuestPath: "/root/library", ReadOnly: true}, info); diff != "" {
		t.Error(diff)
	}
	checkSame(t, repo, guest)
}

func TestCopyOfADirectoryThatIsNoRepository(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, ".gitignore", "*.log\n")
	write(t, dir, "x.log", "ignored\n")
	write(t, dir, "deep/file", "file\n")
	info, guest := pushCopy(t, api.Copy{Path: dir, GuestPath: "/srv/data/"})
	if info.HostPath != dir || info.GuestPath != "/srv/data" || info.Note != plainNote {
		t.Errorf("info: %+v", info)
	}
	if diff := cmp.Diff([]string{".gitignore", "deep/file"}, filesIn(t, guest)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestCopyOfADirectoryInARepository: it is no workspace, and so the repository
// around it isn't meant; but what that ignores is.
func TestCopyOfADirectoryInARepository(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	write(t, repo, ".gitignore", "node_modules/\n/out/\n")
	write(t, repo, "libs/one/.gitignore", "*.log\n")
	for _, name := range []string{"code", "deep/er", "node_modules/x", "x.log"} {
		write(t, repo, "libs/one/"+name, name)
		write(t, repo, "out/data/"+name, name)
	}
	write(t, repo, "libs/two/other", "other")
	run(t, repo, "add", "libs/one/code")
	nested := newRepo(t)
	if err := os.Rename(nested, filepath.Join(repo, "libs/one/nested")); err != nil {
		t.Fatal(err)
	}

	info, guest := pushCopy(t, api.Copy{Path: repo + "/libs/one"})
	if info.HostPath != repo+"/libs/one" || info.GuestPath != "/root/one" || info.Note != insideNote {
		t.Errorf("info: %+v", info)
	}
	checkSame(t, repo+"/libs/one/nested", guest+"/nested")
	mustRemoveAll(t, guest+"/nested")
	if diff := cmp.Diff([]string{".gitignore", "code", "deep/er"}, filesIn(t, guest)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}

	info, guest = pushCopy(t, api.Copy{Path: repo + "/out/data"})
	if info.HostPath != repo+"/out/data" || info.Note != plainNote {
		t.Errorf("an ignored one: %+v", info)
	}
	if diff := cmp.Diff([]string{"code", "deep/er", "node_modules/x", "x.log"}, filesIn(t, guest)); diff != "" {
		t.Errorf("files of an ignored one (-want +got):\n%s", diff)
	}
}

func TestGuestPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"": "/root/x", "/srv": "/srv", "/opt/": "/opt", "/srv/a//b/../c/": "/srv/a/c", "/var/tmp/x": "/var/tmp/x",
		"/usr/local/share/x": "/usr/local/share/x", "/etc/app": "/etc/app", "/running": "/running", "/root/.claude": "/root/.claude",
	} {
		if got, err := guestPath(path, "/root/x"); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", path, got, err, want)
		}
	}
	for path, text := range map[string]string{
		"x": "absolute", "./x": "absolute", "~/x": "absolute", "/": "absolute", "/x/..": "absolute", "/a\x00b": "absolute",
		"/root": "system", "/root/": "system", "/etc": "system", "/usr/lib": "system", "/root/../home": "system",
		"/tmp": "/tmp", "/tmp/x": "/tmp", "/run/x": "/run", "/var/run/x": "/var/run", "/proc/1": "/proc", "/dev/shm/x": "/dev",
		"/lib/modules/x": "/lib/modules", "/srv/../sys": "/sys",
	} {
		_, err := guestPath(path, "/root/x")
		if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), text) || !strings.Contains(api.AsError(err).Hint, "/root/x") {
			t.Errorf("%q: %v", path, err)
		}
	}
}
