package instance

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"banger/internal/api"
)

func open(t *testing.T, dir string) *Instance {
	t.Helper()
	i, err := Open(filepath.Join(dir, "instance.json"), dir)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestInstance(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	made := open(t, dir)
	if !regexp.MustCompile(`^[0-9a-f]{12}$`).MatchString(made.ID) || made.Copied || made.Bridge != "" || made.Subnet.IsValid() {
		t.Fatalf("made: %+v", made)
	}
	subnet := netip.MustParsePrefix("172.16.1.0/24")
	if err := made.Choose("banger1", subnet); err != nil {
		t.Fatal(err)
	}
	if again := open(t, dir); again.ID != made.ID || again.Copied || again.Bridge != "banger1" || again.Subnet != subnet {
		t.Errorf("again: %+v", again)
	}
	moved := filepath.Join(root, "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := open(t, moved); got.ID != made.ID || got.Copied {
			t.Errorf("moved: %+v", got)
		}
	}
	copied := filepath.Join(root, "copied")
	if err := os.CopyFS(copied, os.DirFS(moved)); err != nil {
		t.Fatal(err)
	}
	open(t, copied) // nobody keeps this one
	other := open(t, copied)
	if other.ID == made.ID || !other.Copied {
		t.Errorf("copied: %+v", other)
	}
	if err := other.Keep(); err != nil {
		t.Fatal(err)
	}
	if again := open(t, copied); again.ID != other.ID || again.Copied {
		t.Errorf("copied, again: %+v", again)
	}
}

// A directory in a snapshot has the original's inode.
func TestInstanceInASnapshot(t *testing.T) {
	root := t.TempDir()
	dir, snapshot := filepath.Join(root, "state"), filepath.Join(root, "snapshot")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	made := open(t, dir)
	if err := os.CopyFS(snapshot, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	inode := func(dir string) string {
		t.Helper()
		var stat syscall.Stat_t
		if err := syscall.Stat(dir, &stat); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(stat.Ino)
	}
	file := filepath.Join(snapshot, "instance.json")
	data, err := os.ReadFile(file)
	if err == nil {
		data = bytes.ReplaceAll(data, []byte(inode(dir)), []byte(inode(snapshot)))
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := open(t, snapshot); got.ID == made.ID || !got.Copied {
		t.Errorf("beside the original: %+v", got)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if got := open(t, snapshot); got.ID != made.ID || got.Copied {
		t.Errorf("once the original is gone: %+v", got)
	}
}

func TestDamagedInstance(t *testing.T) {
	for _, data := range []string{"", "{", "{}", `{"id": 7}`} {
		dir := t.TempDir()
		file := filepath.Join(dir, "instance.json")
		if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(file, dir); !errors.Is(err, api.ErrHost) || api.AsError(err).Hint == "" {
			t.Errorf("%q: %v", data, err)
		}
	}
}

// TestKeepWritesOnlyWhatChanged: a start has nothing to write, so that it goes well
// on a full disk.
func TestKeepWritesOnlyWhatChanged(t *testing.T) {
	dir := t.TempDir()
	i := open(t, dir)
	before, err := os.Stat(i.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Keep(); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(i.file)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written anew (%v)", err)
	}
}
