package mkext4

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/hosttool"
)

func TestMake(t *testing.T) {
	if _, err := Tool().Find(); err != nil {
		t.Skip(err)
	}
	debugfs, err := hosttool.Tool{Name: "debugfs", Package: "e2fsprogs"}.Find()
	if err != nil {
		t.Skip(err)
	}
	e2fsck, err := hosttool.Tool{Name: "e2fsck", Package: "e2fsprogs"}.Find()
	if err != nil {
		t.Skip(err)
	}
	src := t.TempDir()
	many := filepath.Join(src, "many")
	if err := os.Mkdir(many, 0o755); err != nil {
		t.Fatal(err)
	}
	// Many small files with long names are what a size by content would
	// underrate.
	for i := range 500 {
		name := fmt.Sprintf("%s-%04d", strings.Repeat("long", 20), i)
		if err := os.WriteFile(filepath.Join(many, name), []byte{'x'}, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	big := strings.Repeat("0123456789abcdef", 3<<20/16)
	if err := os.WriteFile(filepath.Join(src, "big"), []byte(big), 0o640); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if err := os.Link(filepath.Join(src, "big"), filepath.Join(src, fmt.Sprint("link", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(strings.Repeat("target/", 20), filepath.Join(src, "symlink")); err != nil {
		t.Fatal(err)
	}

	image := filepath.Join(t.TempDir(), "fs.ext4")
	if err := Make(t.Context(), src, image, "test", slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(e2fsck, "-fn", image).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	got, err := exec.Command(debugfs, "-R", "cat /link49", image).Output()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != big {
		t.Errorf("the file's content changed: %d bytes, want %d", len(got), len(big))
	}
	info, err := os.Stat(image)
	if err != nil {
		t.Fatal(err)
	}
	if limit := int64(3<<20 + 500*blockSize + slack + 4<<20); info.Size() > limit {
		t.Errorf("the image has %d bytes, want at most %d", info.Size(), limit)
	}
}

func TestMakeMissingTree(t *testing.T) {
	err := Make(t.Context(), filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "x"), "x", slog.New(slog.DiscardHandler))
	if err == nil {
		t.Error("made a file system of a directory that does not exist")
	}
}
