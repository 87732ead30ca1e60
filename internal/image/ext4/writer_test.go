package ext4

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
)

// Contents that come before it is known which file has them.
func TestReserve(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rootfs.ext4")
	taken := bytes.Repeat([]byte("taken"), 3000)
	const huge = 60 << 30 // more extents than a block can list
	err := Create(context.Background(), path, func(w *Writer) error {
		var at [3]int64
		for i, content := range [][]byte{bytes.Repeat([]byte("dropped"), 100_000), taken, taken[:5]} {
			var err error
			if at[i], err = w.Reserve(int64(len(content))); err != nil {
				return err
			}
			if _, err := w.WriteAt(content, at[i]); err != nil {
				return err
			}
		}
		holes, err := w.Reserve(huge)
		if err != nil {
			return err
		}
		for _, f := range []struct {
			name     string
			size, at int64
		}{{"a/taken", int64(len(taken)), at[1]}, {"short", 5, at[2]}, {"holes", huge, holes}} {
			if err := w.WriteFile(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: f.size}, f.at); err != nil {
				return err
			}
		}
		for what, wrong := range map[string]int64{"taken": at[1], "never reserved": at[1] + blockSize} {
			if err := w.WriteFile(&tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: int64(len(taken))}, wrong); err == nil {
				t.Errorf("contents that are %s: no error", what)
			}
		}
		return nil
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	fsck(t, path)
	if got := debugfs(t, path, "cat a/taken"); got != string(taken) {
		t.Errorf("a/taken has %d bytes, want %d", len(got), len(taken))
	}
	if stat := debugfs(t, path, "stat holes"); !strings.Contains(stat, fmt.Sprintf("Size: %d", huge)) {
		t.Errorf("holes: %s", stat)
	}
	image, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	start := make([]byte, 4<<20)
	if _, err := image.ReadAt(start, 0); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(start, []byte("dropped")) {
		t.Error("contents that no file has are still in the image")
	}
}

func TestDirectories(t *testing.T) {
	const names = 3000 // some dozen blocks
	path := filepath.Join(t.TempDir(), "rootfs.ext4")
	err := Create(context.Background(), path, func(w *Writer) error {
		for i := range names {
			name := fmt.Sprintf("deep/er/%s-%d", strings.Repeat("n", i%200), i)
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: "t"}); err != nil {
				return err
			}
		}
		// One that is there already gets its attributes.
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "deep/", Mode: 0o700, Uid: 7})
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	fsck(t, path)
	if got := strings.Count("\n"+debugfs(t, path, "ls -p /deep/er"), "\n/"); got != names+2 {
		t.Errorf("the directory has %d entries, want %d", got, names+2)
	}
	if stat := debugfs(t, path, "stat deep"); !strings.Contains(stat, "Mode:  0700") || !strings.Contains(stat, "User:     7") {
		t.Errorf("deep: %s", stat)
	}
}

// More subdirectories than a link count can tell.
func TestManySubdirectories(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rootfs.ext4")
	err := Create(context.Background(), path, func(w *Writer) error {
		for i := range maxLinks + 10 {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("d/%d", i), Mode: 0o755}); err != nil {
				return err
			}
		}
		return nil
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	fsck(t, path)
}

func TestXattrs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rootfs.ext4")
	long := strings.Repeat("v", 3000)
	records := map[string]string{"user.short": "s", "security.capability": "cap", "trusted.overlay.opaque": "y",
		"user.\xff": "", "user.long": long, "user.longer": "w", "com.apple.quarantine": "means nothing here", "user.": "no name"}
	hdr := &tar.Header{Typeflag: tar.TypeDir, Name: "d", Mode: 0o755, PAXRecords: map[string]string{"comment": "no attribute"}}
	for name, value := range records {
		hdr.PAXRecords[xattrPrefix+name] = value
	}
	if err := Create(context.Background(), path, func(w *Writer) error { return w.WriteHeader(hdr) }, Options{}); err != nil {
		t.Fatal(err)
	}
	fsck(t, path)
	list := debugfs(t, path, "ea_list d")
	for _, want := range []string{"user.short (1)", "security.capability (3)", "trusted.overlay.opaque (1)", "user.long (3000)", "user.longer (1)"} {
		if !strings.Contains(list, want) {
			t.Errorf("d lacks %q: %s", want, list)
		}
	}
	if strings.Contains(list, "apple") || strings.Contains(list, "comment") {
		t.Errorf("d has what Linux doesn't know: %s", list)
	}
}

func TestWrongTrees(t *testing.T) {
	file := func(name string) *tar.Header { return &tar.Header{Typeflag: tar.TypeReg, Name: name} }
	for name, entries := range map[string][]*tar.Header{
		"a file twice":           {file("f"), file("./f")},
		"a directory for a file": {file("f"), {Typeflag: tar.TypeDir, Name: "f"}},
		"a file as a directory":  {file("f"), file("f/g")},
		"a link to nothing":      {{Typeflag: tar.TypeLink, Name: "l", Linkname: "f"}},
		"a link to a directory":  {{Typeflag: tar.TypeDir, Name: "d"}, {Typeflag: tar.TypeLink, Name: "l", Linkname: "d"}},
		"a link over a file":     {file("f"), file("g"), {Typeflag: tar.TypeLink, Name: "g", Linkname: "f"}},
		"a file for the root":    {file("/")},
		"an unknown type":        {{Typeflag: 'Z', Name: "z"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := Create(context.Background(), filepath.Join(dir, "x"), func(w *Writer) error {
				for _, hdr := range entries {
					if err := w.WriteHeader(hdr); err != nil {
						return err
					}
				}
				return nil
			}, Options{})
			if !errors.Is(err, api.ErrInvalid) {
				t.Errorf("error = %v, want api.ErrInvalid", err)
			}
			assertEmpty(t, dir)
		})
	}
}

func TestToStamp(t *testing.T) {
	for when, want := range map[string]stamp{
		"1970-01-01T00:00:00Z":        {0, 0},
		"2024-05-06T07:08:09.5Z":      {0x663881d9, 500_000_000 << 2},
		"1960-01-01T00:00:00Z":        {0xed300880, 0}, // -315619200
		"2040-01-01T00:00:00.000001Z": {0x83aa7e80, 1000<<2 | 1},
		"0001-01-01T00:00:00Z":        {1 << 31, 0},
		"9999-01-01T00:00:00.9Z":      {0x7fffffff, 3},
	} {
		parsed, err := time.Parse(time.RFC3339Nano, when)
		if err != nil {
			t.Fatal(err)
		}
		if got := toStamp(parsed); got != want {
			t.Errorf("%s: %#x, want %#x", when, got, want)
		}
	}
}
