package initramfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"banger/internal/paths"

	"github.com/google/go-cmp/cmp"
)

// parsed is an entry as read back by parse.
type parsed struct {
	Name         string
	Mode         uint64
	Links        uint64
	Major, Minor uint64
	Content      string
}

// parse reads an archive independently of the writer: by the field table in
// the kernel's buffer-format.rst.
func parse(t *testing.T, data []byte) []parsed {
	t.Helper()
	pos := 0
	take := func(n int) string {
		if pos+n > len(data) {
			t.Fatalf("the archive ends within an entry, at %d of %d", pos, len(data))
		}
		s := string(data[pos : pos+n])
		pos += n
		return s
	}
	align := func() {
		for pos%4 != 0 {
			if c := take(1); c != "\x00" {
				t.Fatalf("padding at %d is %q", pos-1, c)
			}
		}
	}
	inodes := make(map[uint64]bool)
	var all []parsed
	for {
		if magic := take(6); magic != "070701" {
			t.Fatalf("magic %q at %d", magic, pos-6)
		}
		var f [13]uint64
		for i := range f {
			n, err := strconv.ParseUint(take(8), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			f[i] = n
		}
		name := take(int(f[11]))
		align()
		content := take(int(f[6]))
		align()
		name, ok := strings.CutSuffix(name, "\x00")
		if !ok {
			t.Fatalf("name %q does not end with a zero", name)
		}
		if name == "TRAILER!!!" {
			break
		}
		if f[2] != 0 || f[3] != 0 || f[5] != 0 {
			t.Errorf("%s: uid %d, gid %d, mtime %d", name, f[2], f[3], f[5])
		}
		if inodes[f[0]] {
			t.Errorf("%s: inode %d occurs twice: the kernel would make hard links", name, f[0])
		}
		inodes[f[0]] = true
		all = append(all, parsed{name, f[1], f[4], f[9], f[10], content})
	}
	if pos != len(data) {
		t.Errorf("%d bytes after the end marker", len(data)-pos)
	}
	return all
}

// fixture makes files and returns the agent's path and the modules' paths.
func fixture(t *testing.T) (string, []string) {
	t.Helper()
	dir := t.TempDir()
	agent := filepath.Join(dir, "agent-binary")
	if err := os.WriteFile(agent, []byte("agent one"), 0o755); err != nil {
		t.Fatal(err)
	}
	var modules []string
	// Sizes around the alignment of four bytes.
	for i, content := range []string{"", "a", "abcd", "abcde"} {
		path := filepath.Join(dir, fmt.Sprintf("%02d-m%d.ko", i, i))
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		modules = append(modules, path)
	}
	return agent, modules
}

func TestBuild(t *testing.T) {
	agent, modules := fixture(t)
	var b bytes.Buffer
	if err := Build(&b, agent, modules); err != nil {
		t.Fatal(err)
	}
	want := []parsed{
		{"dev", 0o040755, 2, 0, 0, ""},
		{"proc", 0o040755, 2, 0, 0, ""},
		{"sys", 0o040755, 2, 0, 0, ""},
		{"mnt", 0o040755, 2, 0, 0, ""},
		{"modules", 0o040755, 2, 0, 0, ""},
		{"dev/console", 0o020600, 1, 5, 1, ""},
		{"init", 0o100755, 1, 0, 0, "agent one"},
		{"modules/00-m0.ko", 0o100644, 1, 0, 0, ""},
		{"modules/01-m1.ko", 0o100644, 1, 0, 0, "a"},
		{"modules/02-m2.ko", 0o100644, 1, 0, 0, "abcd"},
		{"modules/03-m3.ko", 0o100644, 1, 0, 0, "abcde"},
	}
	if diff := cmp.Diff(want, parse(t, b.Bytes())); diff != "" {
		t.Error(diff)
	}
}

func TestCPIOMisuse(t *testing.T) {
	c := newCPIOWriter(io.Discard)
	for _, e := range []entry{{name: ""}, {name: "/x"}, {name: "a\x00b"}, {name: "x", size: 1 << 32}, {name: "x", size: -1}} {
		if err := c.add(e); err == nil {
			t.Errorf("added %+v", e)
		}
	}
	if err := c.add(entry{name: "x", mode: typeRegular, size: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("abc")); err == nil {
		t.Error("wrote more than announced")
	}
	if err := c.add(entry{name: "y"}); err == nil {
		t.Error("added an entry within a file's content")
	}
	if err := c.Close(); err == nil {
		t.Error("closed within a file's content")
	}
}

// brokenWriter fails after some bytes.
type brokenWriter int

func (w *brokenWriter) Write(p []byte) (int, error) {
	if *w -= brokenWriter(len(p)); *w < 0 {
		return 0, errors.New("broken")
	}
	return len(p), nil
}

func TestBuildWriteError(t *testing.T) {
	agent, modules := fixture(t)
	var b bytes.Buffer
	if err := Build(&b, agent, modules); err != nil {
		t.Fatal(err)
	}
	for limit := range b.Len() {
		w := brokenWriter(limit)
		if err := Build(&w, agent, modules); err == nil {
			t.Fatalf("no error from a writer that breaks after %d bytes", limit)
		}
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestEnsure(t *testing.T) {
	agent, modules := fixture(t)
	layout := paths.Layout{Cache: t.TempDir()}
	first, err := Ensure(layout, "k", modules, agent)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Ensure(layout, "k-two", modules, agent)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Ensure(layout, "k", modules, agent)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(again)
	if err != nil {
		t.Fatal(err)
	}
	if again != first || !os.SameFile(before, after) {
		t.Errorf("made it anew: %s, then %s", first, again)
	}

	if err := os.WriteFile(agent, []byte("agent two"), 0o755); err != nil {
		t.Fatal(err)
	}
	second, err := Ensure(layout, "k", modules, agent)
	if err != nil {
		t.Fatal(err)
	}
	if second == first {
		t.Error("a new agent got the old initramfs")
	}
	if diff := cmp.Diff([]string{filepath.Base(second)}, files(t, filepath.Dir(second))); diff != "" {
		t.Errorf("in the cache of k: %s", diff)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("the other kernel's is gone: %v", err)
	}
	data, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if all := parse(t, data); all[6].Content != "agent two" {
		t.Errorf("init is %q", all[6].Content)
	}
}

func TestEnsureConcurrently(t *testing.T) {
	agent, modules := fixture(t)
	layout := paths.Layout{Cache: t.TempDir()}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			path, err := Ensure(layout, "k", modules, agent)
			if err != nil {
				t.Error(err)
			} else if _, err := os.Stat(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := files(t, filepath.Join(layout.InitramfsDir(), "k")); len(got) != 1 {
		t.Errorf("in the cache: %v", got)
	}
}

func TestEnsureErrors(t *testing.T) {
	agent, modules := fixture(t)
	layout := paths.Layout{Cache: t.TempDir()}
	for _, name := range []string{"", ".", "..", "../x", "a/b"} {
		if _, err := Ensure(layout, name, modules, agent); err == nil {
			t.Errorf("made one for kernel %q", name)
		}
	}
	if _, err := Ensure(layout, "k", append(modules, "/nonexistent/x.ko"), agent); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("with a missing module: %v", err)
	}
}
