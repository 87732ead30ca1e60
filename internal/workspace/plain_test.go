package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
)

func TestDirectoryThatIsNoRepository(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, ".gitignore", "*.log\n/build/\n")
	write(t, dir, "deep/.gitignore", "!kept.log\n")
	write(t, dir, "deep/kept.log", "kept\n")
	for _, name := range []string{"file", "deep/file", "latin-\xe9"} {
		write(t, dir, name, name)
	}
	for _, name := range []string{"x.log", "deep/x.log", "build/out"} {
		write(t, dir, name, "ignored\n")
	}
	if err := os.Rename(newRepo(t), filepath.Join(dir, "repo")); err != nil {
		t.Fatal(err)
	}
	plan, err := Inspect(t.Context(), api.Workspace{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	if info := plan.Info(); info.HostPath != dir || info.GuestPath != "/root/repo" || !strings.Contains(info.Note, "not a git repository") {
		t.Errorf("info: %+v", info)
	}
	guest := push(t, api.Workspace{Path: dir})
	checkSame(t, filepath.Join(dir, "repo"), filepath.Join(guest, "repo"))
	mustRemoveAll(t, filepath.Join(guest, "repo"))
	var files []string
	err = filepath.WalkDir(guest, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, strings.TrimPrefix(path, guest+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{".gitignore", "deep/.gitignore", "deep/file", "deep/kept.log", "file", "latin-\xe9"}, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestRepositoryWithoutACommit(t *testing.T) {
	t.Parallel()
	repo := filepath.Join(t.TempDir(), "unborn")
	run(t, "/", "init", "-q", repo)
	write(t, repo, ".gitignore", "ignored\n")
	write(t, repo, "ignored", "ignored\n")
	write(t, repo, "staged", "staged\n")
	run(t, repo, "add", "staged")
	write(t, repo, "untracked", "untracked\n")
	for branch, want := range map[string]string{"": "main", "topic": "topic"} {
		plan, err := Inspect(t.Context(), api.Workspace{Path: repo, Branch: branch})
		if err != nil {
			t.Fatal(err)
		}
		if note := plan.Info().Note; !strings.Contains(note, "no commit yet") {
			t.Errorf("note %q", note)
		}
		guest := push(t, api.Workspace{Path: repo, Branch: branch})
		if got, want := run(t, guest, "status", "--porcelain", "--branch"), "## No commits yet on "+want+"\nA  staged\n?? .gitignore\n?? untracked\n"; got != want {
			t.Errorf("status %q, want %q", got, want)
		}
		if exists(filepath.Join(guest, "ignored")) {
			t.Error("an ignored file was copied")
		}
		run(t, guest, "commit", "-q", "-m", "first")
	}
}
