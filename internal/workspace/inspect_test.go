package workspace

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
)

// TestRefusedDirectories: what can't be copied is the same for workspaces and
// further directories.
func TestRefusedDirectories(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "file", "x")
	home := os.Getenv("HOME")
	for what, inspect := range map[string]func(path string) error{
		"workspace": func(path string) error { _, err := Inspect(t.Context(), api.Workspace{Path: path}); return err },
		"copy":      func(path string) error { _, err := InspectCopy(t.Context(), api.Copy{Path: path}); return err },
	} {
		for name, test := range map[string]struct {
			path string
			want *api.Error
			text string
		}{
			"relative path": {"dir", api.ErrInvalid, "not absolute"},
			"missing":       {dir + "/no", api.ErrNotFound, "no directory"},
			"file":          {dir + "/file", api.ErrInvalid, "not a directory"},
			"root":          {"/", api.ErrInvalid, "all files in it"},
			"home":          {home, api.ErrInvalid, "all files in it"},
			"around home":   {filepath.Dir(home), api.ErrInvalid, "all files in it"},
		} {
			err := inspect(test.path)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) || api.AsError(err).Hint == "" {
				t.Errorf("%s, %s: got %#v", what, name, err)
			}
		}
	}
}

func TestInspectRefuses(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	run(t, repo, "branch", "taken/name")
	empty := t.TempDir()
	unborn := filepath.Join(t.TempDir(), "unborn")
	run(t, "/", "init", "-q", unborn)
	bare := filepath.Join(t.TempDir(), "bare.git")
	run(t, "/", "clone", "-q", "--bare", repo, bare)
	astray := newRepo(t)
	run(t, astray, "config", "core.worktree", filepath.Dir(empty))

	for name, test := range map[string]struct {
		workspace api.Workspace
		want      *api.Error
		text      string
	}{
		"branch of nothing": {api.Workspace{Path: empty, Branch: "b"}, api.ErrInvalid, "not a git repository"},
		"from no commit":    {api.Workspace{Path: unborn, Branch: "b", From: "main"}, api.ErrNotFound, "no commit"},
		"bare":              {api.Workspace{Path: bare}, api.ErrInvalid, "bare"},
		"git directory":     {api.Workspace{Path: repo + "/.git"}, api.ErrInvalid, "bare"},
		"worktree astray":   {api.Workspace{Path: astray}, api.ErrInvalid, "elsewhere"},
		"bad branch":        {api.Workspace{Path: repo, Branch: "a..b"}, api.ErrInvalid, "no valid name"},
		"option as branch":  {api.Workspace{Path: repo, Branch: "-d"}, api.ErrInvalid, "no valid name"},
		"HEAD as branch":    {api.Workspace{Path: repo, Branch: "HEAD"}, api.ErrInvalid, "no valid name"},
		"from alone":        {api.Workspace{Path: repo, From: "main"}, api.ErrInvalid, "needs a name"},
		"unknown from":      {api.Workspace{Path: repo, Branch: "b", From: "no-such"}, api.ErrNotFound, "no commit"},
		"option as from":    {api.Workspace{Path: repo, Branch: "b", From: "--all"}, api.ErrNotFound, "no commit"},
		"from a blob":       {api.Workspace{Path: repo, Branch: "b", From: "HEAD:a.txt"}, api.ErrNotFound, "no commit"},
		"existing branch":   {api.Workspace{Path: repo, Branch: "main"}, api.ErrExists, "exists"},
		"below a branch":    {api.Workspace{Path: repo, Branch: "main/x"}, api.ErrExists, "beside main"},
		"above a branch":    {api.Workspace{Path: repo, Branch: "taken"}, api.ErrExists, "beside taken/name"},
		"relative in guest": {api.Workspace{Path: repo, GuestPath: "repo"}, api.ErrInvalid, "guest path"},
		"guest's root":      {api.Workspace{Path: repo, GuestPath: "/root/../"}, api.ErrInvalid, "guest path"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Inspect(t.Context(), test.workspace)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) || api.AsError(err).Hint == "" {
				t.Errorf("got %#v", err)
			}
		})
	}
}

func TestInspectFindsTheRepository(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	link := filepath.Join(t.TempDir(), "project")
	if err := os.Symlink(repo, link); err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(t.TempDir(), "a\nb\xff")
	if err := os.Rename(newRepo(t), odd); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		workspace api.Workspace
		want      api.WorkspaceInfo
	}{
		{api.Workspace{Path: repo}, api.WorkspaceInfo{HostPath: repo, GuestPath: "/root/repo"}},
		{api.Workspace{Path: repo + "/"}, api.WorkspaceInfo{HostPath: repo, GuestPath: "/root/repo"}},
		{api.Workspace{Path: repo + "/dir"}, api.WorkspaceInfo{HostPath: repo, GuestPath: "/root/repo"}},
		{api.Workspace{Path: link}, api.WorkspaceInfo{HostPath: repo, GuestPath: "/root/repo"}},
		{api.Workspace{Path: link + "/dir"}, api.WorkspaceInfo{HostPath: repo, GuestPath: "/root/repo"}},
		{api.Workspace{Path: odd}, api.WorkspaceInfo{HostPath: odd, GuestPath: "/root/repo"}},
		{api.Workspace{Path: repo, GuestPath: "/srv/x/"}, api.WorkspaceInfo{HostPath: repo, GuestPath: "/srv/x"}},
	} {
		plan, err := Inspect(t.Context(), test.workspace)
		if err != nil {
			t.Errorf("%+v: %v", test.workspace, err)
			continue
		}
		if diff := cmp.Diff(test.want, plan.Info()); diff != "" {
			t.Errorf("%+v:\n%s", test.workspace, diff)
		}
	}
}

func TestInspectIgnoresTheEnvironmentsRepository(t *testing.T) {
	repo := newRepo(t)
	t.Setenv("GIT_DIR", filepath.Join(newRepo(t), ".git"))
	t.Setenv("GIT_TRACE", "1")
	plan, err := Inspect(t.Context(), api.Workspace{Path: repo})
	if err != nil || plan.Info().HostPath != repo {
		t.Errorf("got %+v, %v", plan, err)
	}
}

func TestInspectWithoutGit(t *testing.T) {
	repo := newRepo(t)
	t.Setenv("PATH", t.TempDir())
	_, err := Inspect(t.Context(), api.Workspace{Path: repo})
	if !errors.Is(err, api.ErrHost) || api.AsError(err).Hint == "" {
		t.Errorf("got %v", err)
	}
}

func TestInspectOfAnotherUsersRepository(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a repository away")
	}
	t.Parallel()
	repo := newRepo(t)
	if err := errors.Join(os.Chown(repo, 12345, 12345), os.Chown(filepath.Join(repo, ".git"), 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	_, err := Inspect(t.Context(), api.Workspace{Path: repo})
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(api.AsError(err).Hint, "safe.directory") {
		t.Errorf("got %v", err)
	}
}
