package workspace

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/guest"
)

func TestMain(m *testing.M) {
	if os.Getenv(filterProcessVariable) != "" {
		if err := serveFilter(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	home, err := os.MkdirTemp("", "banger-home-")
	if err == nil {
		err = isolate(home)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(home)
	os.Exit(code)
}

// userConfig is the configuration of the user who runs the tests.
const userConfig = `
[user]
	name = "Ann \"A\" Other"
	email = ann@example.com
[init]
	defaultBranch = main
[protocol "file"]
	allow = always
[credential]
	helper = store
[banger]
	safeDirectory = ~/shared
`

// isolate gives git a user in an empty home and keeps this machine's
// configuration away.
func isolate(home string) error {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "GIT_") {
			if err := os.Unsetenv(name); err != nil {
				return err
			}
		}
	}
	for name, value := range map[string]string{
		"HOME":                home,
		"XDG_CONFIG_HOME":     filepath.Join(home, ".config"),
		"GIT_CONFIG_NOSYSTEM": "1",
		"GIT_CONFIG_GLOBAL":   filepath.Join(home, ".gitconfig"),
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(home, "shared"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(userConfig), 0o644)
}

// sharedDir makes a directory in the one that userConfig says is safe.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Join(os.Getenv("HOME"), "shared"), "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs git in dir and returns what it prints.
func run(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := tryRun(dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryRun(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("git %q in %s: %w\n%s%s", args, dir, err, out, stderr.String())
	}
	return string(out), nil
}

func write(t testing.TB, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// newRepo makes a repository with two commits.
func newRepo(t testing.TB, initArgs ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo")
	run(t, "/", append([]string{"init", "-q", dir}, initArgs...)...)
	write(t, dir, "a.txt", "one\n")
	write(t, dir, "dir/b.txt", "two\n")
	commit(t, dir, "first")
	write(t, dir, "a.txt", "one\nmore\n")
	commit(t, dir, "second")
	return dir
}

func commit(t testing.TB, dir, message string) {
	t.Helper()
	run(t, dir, "add", "-A")
	run(t, dir, "commit", "-q", "-m", message)
}

// push copies a workspace into a directory of this machine.
func push(t testing.TB, w api.Workspace) string {
	t.Helper()
	guest, err := tryPush(t, w)
	if err != nil {
		t.Fatal(err)
	}
	return guest
}

func tryPush(t testing.TB, w api.Workspace) (string, error) {
	t.Helper()
	plan, err := Inspect(context.Background(), w)
	if err != nil {
		return "", err
	}
	return tryPushPlan(t, plan)
}

func tryPushPlan(t testing.TB, plan *Plan) (string, error) {
	t.Helper()
	guest := filepath.Join(t.TempDir(), "guest")
	return guest, plan.Push(context.Background(), func(_ context.Context, path string, stream io.Reader) error {
		if path != plan.Info().GuestPath {
			t.Errorf("unpacked at %s", path)
		}
		return extract(guest, stream)
	}, nil)
}

// extract unpacks a tar stream as an agent does.
func extract(dir string, stream io.Reader) error {
	times := make(map[string]*tar.Header)
	for r := tar.NewReader(stream); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.Mkdir(path, h.FileInfo().Mode().Perm())
			if errors.Is(err, fs.ErrExist) {
				err = nil
			}
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, path)
			times[path] = h
		case tar.TypeReg:
			err = extractFile(path, h, r)
			times[path] = h
		case tar.TypeLink:
			err = os.Link(filepath.Join(dir, h.Linkname), path)
		default:
			err = fmt.Errorf("%s: unexpected type %q", h.Name, h.Typeflag)
		}
		if err != nil {
			return err
		}
	}
	for path, h := range times {
		ts := unix.NsecToTimespec(h.ModTime.UnixNano())
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return nil
}

func extractFile(path string, h *tar.Header, r io.Reader) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, h.FileInfo().Mode().Perm())
	if err != nil {
		return err
	}
	if record, sparse := h.PAXRecords[guest.SparseRecord]; sparse {
		return errors.Join(extractSparse(f, record, h.Size, r), f.Close())
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

func extractSparse(f *os.File, record string, inStream int64, r io.Reader) error {
	size, pieces, err := guest.ParseSparse(record, inStream)
	for _, piece := range pieces {
		if err == nil {
			_, err = f.Seek(piece.Offset, io.SeekStart)
		}
		if err == nil {
			_, err = io.CopyN(f, r, piece.Length)
		}
	}
	return errors.Join(err, f.Truncate(size))
}

// checkSame checks that git sees in the copy what it sees in the source.
func checkSame(t testing.TB, source, guest string) {
	t.Helper()
	// First, as status refreshes the index: only files that are changed may
	// look so without their contents being compared.
	if diff := cmp.Diff(run(t, source, "diff", "--name-status", "--ignore-submodules=all"),
		run(t, guest, "diff-files", "--name-status", "--ignore-submodules=all")); diff != "" {
		t.Errorf("files that look changed:\n%s", diff)
	}
	checkHistory(t, source, guest)
	for _, args := range [][]string{
		{"status", "--porcelain=v2", "--branch", "-z"},
		{"stash", "list", "--format=%gd %gs %H"},
		{"ls-files", "--stage", "-z"},
		{"for-each-ref"},
	} {
		if diff := cmp.Diff(run(t, source, args...), run(t, guest, args...)); diff != "" {
			t.Errorf("git %v (-source +guest):\n%s", args, diff)
		}
	}
}

// checkHistory checks the commits and the soundness of the copy.
func checkHistory(t testing.TB, source, guest string) {
	t.Helper()
	run(t, guest, "fsck", "--full", "--no-dangling")
	args := []string{"rev-list", "--all", "--date-order"}
	if diff := cmp.Diff(run(t, source, args...), run(t, guest, args...)); diff != "" {
		t.Errorf("commits (-source +guest):\n%s", diff)
	}
	if exists(filepath.Join(guest, ".git", alternates)) {
		t.Error("the copy needs the host's objects")
	}
}
