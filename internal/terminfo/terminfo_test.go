package terminfo

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// entry is what a description begins with, and some more.
func entry(mark string, size int) []byte { return append([]byte(mark), make([]byte, size)...) }

func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	legacy, wide := entry("\x1a\x01", 100), entry("\x1e\x02", 200)
	put(t, filepath.Join(first, "x/xterm-kitty"), legacy)
	put(t, filepath.Join(second, "x/xterm-kitty"), wide)
	put(t, filepath.Join(second, "66/foot"), wide)
	put(t, filepath.Join(second, "t/text"), []byte("not a description at all"))
	put(t, filepath.Join(second, "l/large"), entry("\x1a\x01", maxSize))
	put(t, filepath.Join(second, "s/short"), []byte("\x1a\x01"))
	put(t, filepath.Join(second, "secret"), legacy)
	if err := os.Mkdir(filepath.Join(second, "p"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(second, "p/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	dirs := []string{first, second}
	for name, want := range map[string][]byte{
		"xterm-kitty": legacy, "foot": wide,
		"absent": nil, "text": nil, "large": nil, "short": nil, "pipe": nil,
		"": nil, ".": nil, "..": nil, "../secret": nil, "x/../../secret": nil, strings.Repeat("x", 65): nil, "a b": nil, "a\x00": nil,
	} {
		if got := Find(name, dirs); !bytes.Equal(got, want) {
			t.Errorf("%q has a description of %d bytes, want %d", name, len(got), len(want))
		}
	}
}

func TestDirs(t *testing.T) {
	got := Dirs("/own", "/root", "/a::relative:/b")
	want := append([]string{"/own", "/root/.terminfo", "/a", "/b"}, systemDirs()...)
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := Dirs("relative", "", ""); !slices.Equal(got, systemDirs()) {
		t.Errorf("got %q", got)
	}
}

func TestEncode(t *testing.T) {
	data := entry("\x1e\x02", 3000)
	if got, err := Decode(Encode(data)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	for _, bad := range []string{"", "!", Encode([]byte("no description, but long enough")), strings.Repeat("A", 1<<20)} {
		if _, err := Decode(bad); err == nil {
			t.Errorf("no error for %.20q", bad)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(entry("\x1a\x01", 20)))
	f.Fuzz(func(t *testing.T, text string) {
		if data, err := Decode(text); err == nil && (len(data) > maxSize || check(data) != nil) {
			t.Errorf("%q was decoded", text)
		}
	})
}
