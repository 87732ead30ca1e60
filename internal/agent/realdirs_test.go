package agent

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSeedEmpty(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	for _, dir := range []string{src, dst + seedSuffix + "/of an interrupted one"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Chmod(src, 0o1777); err != nil {
		t.Fatal(err)
	}
	if err := seedEmpty(src+"/.", dst); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dst)
	if err != nil || info.Mode() != fs.ModeDir|fs.ModeSticky|0o777 {
		t.Errorf("the copy: %v, %v", info, err)
	}
	if empty, err := isEmpty(dst); err != nil || !empty {
		t.Errorf("the copy is empty: %v, %v", empty, err)
	}
	if err := os.WriteFile(filepath.Join(dst, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if empty, err := isEmpty(dst); err != nil || empty {
		t.Errorf("with a file it is empty: %v, %v", empty, err)
	}
}

// What can't be a directory is left alone; nothing is mounted there.
func TestBindEmptyDirLeavesOthers(t *testing.T) {
	root, dir, _ := newTestRoot(t)
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "opt/conda"), 0o755),
		os.WriteFile(filepath.Join(dir, "srv"), nil, 0o600),
		os.Symlink("/no/where", filepath.Join(dir, "tmp")),
		os.MkdirAll(filepath.Join(dir, "root"), 0o755),
		os.MkdirAll(filepath.Join(dir, "var"), 0o755),
		os.Symlink("/root", filepath.Join(dir, "var/tmp")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"/opt", "/srv", "/tmp", "/var/tmp"} {
		if got, err := bindEmptyDir(root, name, []string{"/root"}); err != nil || got != "" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
