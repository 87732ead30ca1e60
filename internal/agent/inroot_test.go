package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// newTestRoot makes a root with a hostile etc: a symlink to a directory
// outside, absolute and relative ones, and a usr-merged lib.
func newTestRoot(t *testing.T) (root *rootDir, dir, outside string) {
	t.Helper()
	dir, outside = t.TempDir(), t.TempDir()
	for _, d := range []string{"etc", "usr/lib"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"lib": "usr/lib", "abs": "/usr", "up": "../../../../etc", "out": outside,
		"etc/resolv.conf": "../run/systemd/resolve/stub-resolv.conf", "etc/evil": filepath.Join(outside, "f"),
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := openRootDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root, dir, outside
}

func TestResolveStaysInside(t *testing.T) {
	root, _, _ := newTestRoot(t)
	for name, want := range map[string]string{
		"/lib": "/usr/lib", "/abs/lib": "/usr/lib", "/up": "/etc", "/../../etc": "/etc", "/": "/",
	} {
		if got, err := root.resolve(name); err != nil || got != want {
			t.Errorf("%s resolves to %q, %v; want %q", name, got, err, want)
		}
	}
	if got, err := root.resolve("/out"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path outside resolves to %q, %v", got, err)
	}
}

func TestWriteFileReplacesSymlinks(t *testing.T) {
	root, dir, outside := newTestRoot(t)
	for _, name := range []string{"/etc/resolv.conf", "/etc/evil", "/lib/new/deep/file", "/up/file"} {
		if err := root.writeFile(name, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, where := range map[string]string{
		"/etc/resolv.conf": "etc/resolv.conf", "/etc/evil": "etc/evil",
		"/lib/new/deep/file": "usr/lib/new/deep/file", "/up/file": "etc/file",
	} {
		info, err := os.Lstat(filepath.Join(dir, where))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 || read(t, filepath.Join(dir, where)) != name {
			t.Errorf("%s has mode %v", where, info.Mode())
		}
	}
	if err := root.writeFile("/out/file", nil, 0o600); err == nil {
		t.Error("wrote into a directory that the root doesn't have")
	}
	if found, err := os.ReadDir(outside); err != nil || len(found) > 0 {
		t.Errorf("outside are %v (%v)", found, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "etc", ".banger-*")); err != nil || len(left) > 0 {
		t.Errorf("temporary files stayed: %v (%v)", left, err)
	}
}
