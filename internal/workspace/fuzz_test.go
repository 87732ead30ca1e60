package workspace

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzSharedIndex reads hostile indexes.
func FuzzSharedIndex(f *testing.F) {
	repo := newRepo(f)
	add := func(args ...string) {
		f.Helper()
		run(f, repo, args...)
		f.Add([]byte(read(f, repo, ".git/index")), false)
	}
	add("update-index", "--index-version=2", "--force-write-index")
	write(f, repo, "intended", "x")
	add("add", "-N", "intended") // version 3
	write(f, repo, strings.Repeat("long/", 900)[:200]+"/name", "x")
	add("add", ".")
	add("update-index", "--index-version=4")
	add("update-index", "--split-index")
	write(f, repo, "more", "x")
	add("-c", "core.splitIndex=true", "add", ".")
	f.Add([]byte("DIRC\x00\x00\x00\x02\xff\xff\xff\xff"), true)
	f.Fuzz(func(t *testing.T, data []byte, sha256 bool) {
		size := 20
		if sha256 {
			size = 32
		}
		name, err := sharedIndex(bytes.NewReader(data), int64(len(data)), size)
		if err != nil && name != "" || name != "" && (len(name) != 2*size || strings.Trim(name, "0123456789abcdef") != "") {
			t.Errorf("%q, %v", name, err)
		}
	})
}

// The reader finds what git wrote.
func TestSharedIndex(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2", "3", "4"} {
		repo := newRepo(t)
		for _, name := range []string{strings.Repeat("x", 200), strings.Repeat("dir/", 1100) + "name", "a", "ab", "abcdefgh"} {
			// The longest is longer than a path may be for the system.
			id := strings.TrimSpace(run(t, repo, "rev-parse", "HEAD:a.txt"))
			run(t, repo, "update-index", "--add", "--cacheinfo", "100644,"+id+","+name)
		}
		run(t, repo, "update-index", "--index-version="+version)
		index := read(t, repo, ".git/index")
		if got, err := sharedIndex(strings.NewReader(index), int64(len(index)), 20); got != "" || err != nil {
			t.Errorf("version %s: %q, %v", version, got, err)
		}
		run(t, repo, "update-index", "--split-index")
		shared, err := filepath.Glob(filepath.Join(repo, ".git/sharedindex.*"))
		if err != nil || len(shared) != 1 {
			t.Fatal(shared, err)
		}
		write(t, repo, "more", "x")
		run(t, repo, "-c", "core.splitIndex=true", "update-index", "--add", "more")
		index = read(t, repo, ".git/index")
		if got, err := sharedIndex(strings.NewReader(index), int64(len(index)), 20); ".git/sharedindex."+got != ".git/"+filepath.Base(shared[0]) || err != nil {
			t.Errorf("version %s: %q, %v, want %s", version, got, err, shared[0])
		}
	}
}

// FuzzGitFile has files say where a repository is: .git, commondir, gitdir and
// alternates. Whatever they say, another repository isn't taken for theirs.
func FuzzGitFile(f *testing.F) {
	base := f.TempDir()
	mustMkdir(f, base, "private/.git/objects", "private/.git/refs", "private/.git/worktrees/known",
		"repo/dir", "own/objects/info", "own/refs", "worktrees/fake/objects/info", "worktrees/fake/refs")
	for _, dir := range []string{"private/.git", "own", "worktrees/fake", "private/.git/worktrees/known"} {
		write(f, base, dir+"/HEAD", "ref: refs/heads/main\n")
	}
	write(f, base, "private/.git/worktrees/known/gitdir", base+"/elsewhere/.git\n")
	write(f, base, "private/.git/worktrees/known/commondir", "../..\n")
	for _, gitFile := range []string{
		"gitdir: " + base + "/private/.git\n", "gitdir: ../private/.git", "gitdir: ../private/.git/worktrees/known\r\n",
		"gitdir: ../own\n", "gitdir: ../worktrees/fake\n", "gitdir: dir/../../own", "gitdir: \x00", "",
	} {
		f.Add([]byte(gitFile), []byte("../private/.git\n"), []byte("../../repo/.git\n"), []byte("../../private/.git/objects\n"))
		f.Add([]byte(gitFile), []byte("."), []byte(base+"/repo/.git"), []byte("\"../../private/.git/objects\"\n#\n\n"))
	}
	private := filepath.Join(base, "private")
	f.Fuzz(func(t *testing.T, gitFile, commonDir, gitDir, alternates []byte) {
		write(t, base, "repo/.git", string(gitFile))
		for _, dir := range []string{"own", "worktrees/fake"} {
			for name, data := range map[string][]byte{"commondir": commonDir, "gitdir": gitDir, "objects/info/alternates": alternates} {
				path := filepath.Join(base, dir, name)
				if len(data) == 0 {
					mustRemoveAll(t, path)
				} else if err := os.WriteFile(path, data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		at, err := locate(filepath.Join(base, "repo/dir"))
		if err != nil {
			return
		}
		r := &repository{location: at}
		if r.checkWorktree() == nil && (isBelow(at.gitDir, private) || isBelow(at.commonDir, private)) {
			t.Errorf("taken for its own: %+v", at)
		}
		if r.checkObjects() != nil {
			return
		}
		for _, dir := range r.objects {
			if isBelow(dir, private) && !isBelow(at.commonDir, private) {
				t.Errorf("objects of %s are used by %+v", dir, at)
			}
		}
	})
}

func mustMkdir(t testing.TB, base string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(base, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzConfig renders settings as git lists them. A value must not become
// another setting.
func FuzzConfig(f *testing.F) {
	f.Add("remote.origin.url\nhttps://example.com\x00core.bare\x00a.b\"c\\.d\nline\nline\x00")
	f.Fuzz(func(t *testing.T, list string) {
		settings := parseSettings([]byte(list))
		lines := 0
		for _, s := range settings {
			lines += strings.Count(string(renderSettings([]setting{s})), "\n")
		}
		if lines > 2*len(settings) {
			t.Errorf("%q: %d lines of %d settings", list, lines, len(settings))
		}
	})
}
