package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSeedCopiesEverything(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	old := time.Date(1999, 1, 2, 3, 4, 5, 6000, time.UTC)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(src, "d/e"), 0o755))
	must(os.WriteFile(filepath.Join(src, "d/f"), []byte("content"), 0o600))
	must(os.Link(filepath.Join(src, "d/f"), filepath.Join(src, "twin")))
	must(os.Symlink("/no/where", filepath.Join(src, "l")))
	must(os.Link(filepath.Join(src, "l"), filepath.Join(src, "l2")))
	must(unix.Mkfifo(filepath.Join(src, "pipe"), 0o640))
	must(unix.Chmod(filepath.Join(src, "d/f"), 0o4711))
	must(unix.Chmod(filepath.Join(src, "d"), 0o1777))
	xattrs := unix.Setxattr(filepath.Join(src, "d"), "user.note", []byte("a\x00b"), 0)
	must(os.Chtimes(filepath.Join(src, "d/f"), old, old))
	must(os.Chtimes(filepath.Join(src, "d"), old, old))
	// An interrupted copy must not be taken for a part of this one.
	must(os.MkdirAll(dst+seedSuffix+"/junk", 0o755))

	must(seed(src, dst))

	for name, mode := range map[string]fs.FileMode{
		"d": fs.ModeDir | fs.ModeSticky | 0o777, "d/f": fs.ModeSetuid | 0o711, "l": fs.ModeSymlink | 0o777,
		"pipe": fs.ModeNamedPipe | 0o640, "d/e": fs.ModeDir | 0o755,
	} {
		info, err := os.Lstat(filepath.Join(dst, name))
		must(err)
		if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), mode)
		}
		if (name == "d" || name == "d/f") && !info.ModTime().Equal(old) {
			t.Errorf("%s has time %v", name, info.ModTime())
		}
	}
	for a, b := range map[string]string{"d/f": "twin", "l": "l2"} {
		infoA, errA := os.Lstat(filepath.Join(dst, a))
		infoB, errB := os.Lstat(filepath.Join(dst, b))
		must(errors.Join(errA, errB))
		if !os.SameFile(infoA, infoB) {
			t.Errorf("%s and %s are two files now", a, b)
		}
	}
	if target, err := os.Readlink(filepath.Join(dst, "l")); err != nil || target != "/no/where" {
		t.Errorf("the symlink leads to %q (%v)", target, err)
	}
	if xattrs == nil {
		value := make([]byte, 10)
		n, err := unix.Getxattr(filepath.Join(dst, "d"), "user.note", value)
		if err != nil || string(value[:max(n, 0)]) != "a\x00b" {
			t.Errorf("the attribute is %q (%v)", value[:max(n, 0)], err)
		}
	}
	if _, err := os.Stat(filepath.Join(dst, "junk")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the interrupted copy is still there (%v)", err)
	}
}

func TestSeedKeepsWhatIsThere(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := seed(src, dst); err != nil {
		t.Fatal(err)
	}
	if found, err := os.ReadDir(dst); err != nil || len(found) > 0 {
		t.Errorf("a directory that was there got %v (%v)", found, err)
	}
}

func TestEmptyInitramfsRefusesDisks(t *testing.T) {
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type == unix.TMPFS_MAGIC {
		t.Skip("the temporary directory is a tmpfs")
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := emptyInitramfs(dir); err == nil {
		t.Error("a disk was emptied")
	}
	if _, err := os.Stat(filepath.Join(dir, "f")); err != nil {
		t.Error(err)
	}
}
