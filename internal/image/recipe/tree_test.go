package recipe

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// date is when the "packages" of these tests were made.
var date = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

// builtTree makes a tree as a build leaves it: some files are of packages and
// old, others were made now.
func builtTree(t *testing.T, names ...string) string {
	t.Helper()
	tree := newTree(t, names...)
	for _, err := range []error{
		os.Link(filepath.Join(tree, "etc/old"), filepath.Join(tree, "etc/hard")),
		os.Symlink("old", filepath.Join(tree, "etc/soft")),
		syscall.Mkfifo(filepath.Join(tree, "fifo"), 0o600),
		unix.Lsetxattr(filepath.Join(tree, "etc/old"), "user.mark", []byte("x"), 0),
		os.Chtimes(filepath.Join(tree, "etc/old"), date, date),
		os.Chtimes(filepath.Join(tree, "etc/older"), date.Add(-time.Hour), date.Add(-time.Hour)),
		os.Chtimes(filepath.Join(tree, "etc/future"), date.AddDate(99, 0, 0), date.AddDate(99, 0, 0)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// The order in which files were made, and when, must not show.
func TestWriteExt4IsReproducible(t *testing.T) {
	started := time.Now()
	trees := []string{
		builtTree(t, "etc/old", "etc/older", "etc/new", "etc/future", "usr/x"),
		builtTree(t, "usr/x", "etc/future", "etc/new", "etc/older", "etc/old"),
	}
	var images [][]byte
	for _, tree := range trees {
		epoch, err := newest(tree, started)
		if err != nil {
			t.Fatal(err)
		}
		if !epoch.Equal(date) {
			t.Errorf("the newest file of a package is of %s, not of %s", date, epoch)
		}
		dst := filepath.Join(t.TempDir(), RootfsFile)
		if err := writeExt4(t.Context(), tree, dst, epoch); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(dst)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, data)
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("the file systems of equal trees differ")
	}
	if err := os.WriteFile(filepath.Join(trees[0], "etc/new"), []byte("etc/NEW"), 0o600); err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(t.TempDir(), RootfsFile)
	if err := writeExt4(t.Context(), trees[0], dst, date); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(dst); err != nil || bytes.Equal(data, images[0]) {
		t.Errorf("another content makes no difference: %v", err)
	}
}

func TestSettleShadow(t *testing.T) {
	tree := newTree(t, "etc/shadow")
	path := filepath.Join(tree, "etc/shadow")
	before := "root:*:20780:0:99999:7:::\nnew:!:0:0:99999:7:::\nsshd:!::::::: \nodd line\n"
	if err := os.WriteFile(path, []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := settleShadow(tree, date); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "root:*:19849:0:99999:7:::\nnew:!:0:0:99999:7:::\nsshd:!::::::: \nodd line\n"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := settleShadow(t.TempDir(), date); err != nil {
		t.Errorf("a tree without passwords: %v", err)
	}
}
