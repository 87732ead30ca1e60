package bundle

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
)

// unpackBytes unpacks a bundle with these bytes below a directory of its own,
// and checks that nothing gets out of there.
func unpackBytes(t *testing.T, data []byte, o Options) (dir string, err error) {
	t.Helper()
	around := t.TempDir()
	source := filepath.Join(t.TempDir(), "hostile.tar.zst")
	dir = filepath.Join(around, "a", "b")
	if err := errors.Join(os.WriteFile(source, data, 0o600), os.MkdirAll(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	_, err = Unpack(t.Context(), source, dir, o)
	for name := range tree(t, around) {
		if !strings.HasPrefix(name, "a/b/") {
			t.Errorf("%s was written", name)
		}
	}
	if err != nil && errors.Is(err, api.ErrInvalid) && !strings.Contains(err.Error(), source) {
		t.Errorf("the error doesn't name the bundle: %v", err)
	}
	return dir, err
}

func regular(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644}
}

func TestHostile(t *testing.T) {
	manifest := regular(ManifestName, 2)
	other := func(kind byte, name, link string) *tar.Header {
		return &tar.Header{Typeflag: kind, Name: name, Linkname: link, Mode: 0o644}
	}
	for name, headers := range map[string][]*tar.Header{
		"nothing":              {},
		"no manifest":          {regular("rootfs.ext4", 5)},
		"manifest later":       {regular("rootfs.ext4", 5), manifest},
		"manifest is a link":   {other(tar.TypeSymlink, ManifestName, "/etc/passwd")},
		"long manifest":        {regular(ManifestName, maxManifest+1)},
		"twice":                {manifest, regular("a", 1), regular("a", 1)},
		"manifest twice":       {manifest, manifest},
		"up":                   {manifest, regular("../a", 1)},
		"up from below":        {manifest, regular("b/../../a", 1)},
		"absolute":             {manifest, regular("/a", 1)},
		"dot":                  {manifest, regular("./a", 1)},
		"no name":              {manifest, regular("b//a", 1)},
		"backslash":            {manifest, regular(`b\a`, 1)},
		"escape sequence":      {manifest, regular("\x1b[31m", 1)},
		"not UTF-8":            {manifest, regular("a\xff", 1)},
		"symlink":              {manifest, other(tar.TypeSymlink, "a", "/etc")},
		"through a symlink":    {manifest, other(tar.TypeSymlink, "d", ".."), regular("d/a", 1)},
		"hard link":            {manifest, other(tar.TypeLink, "a", ManifestName)},
		"device":               {manifest, other(tar.TypeBlock, "a", "")},
		"fifo":                 {manifest, other(tar.TypeFifo, "a", "")},
		"directory":            {manifest, other(tar.TypeDir, "d/", "")},
		"not allowed":          {manifest, regular("surprise", 1)},
		"not allowed below":    {manifest, regular("a/surprise", 1)},
		"too large":            {manifest, regular("a", 2<<20)},
		"too large in all":     {manifest, regular("a", 1<<20-10), regular("b", 100)},
		"file as a directory":  {manifest, regular("a", 1), regular("a/b", 1)},
		"file for a directory": {manifest, regular("a/b", 1), regular("a", 1)},
	} {
		o := Options{MaxBytes: 1 << 20, Allowed: func(name string) bool { return !strings.HasSuffix(name, "surprise") }}
		if name == "long manifest" {
			o.MaxBytes = 0
		}
		_, err := unpackBytes(t, archive(t, headers...), o)
		if err == nil || !errors.Is(err, api.ErrInvalid) && !strings.HasPrefix(name, "file ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := unpackBytes(t, archive(t, manifest, regular("a", 1), regular("b/c", 3)), Options{MaxBytes: 6}); err != nil {
		t.Errorf("a harmless one: %v", err)
	}
}

func TestTruncated(t *testing.T) {
	path, _ := sample(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cuts := []int{0, 1, 4, 10, 100, len(data) / 2, len(data) - 5, len(data) - 1}
	frames := 0
	for n := 1; n < len(data); n++ { // where a frame ends, zstd can't tell that there should be more
		if bytes.HasPrefix(data[n:], []byte{0x28, 0xb5, 0x2f, 0xfd}) {
			cuts = append(cuts, n)
			frames++
		}
	}
	if frames < 3 {
		t.Errorf("only %d more frames", frames)
	}
	for _, n := range cuts {
		if _, err := unpackBytes(t, data[:n], Options{}); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%d of %d bytes: got %v", n, len(data), err)
		}
	}
}

func TestGarbage(t *testing.T) {
	path, made := sample(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(good)
	flipped[len(good)/2] ^= 1
	for name, data := range map[string][]byte{
		"noise":           noise(10_000),
		"not an archive":  compress(t, noise(10_000)),
		"gzip":            append([]byte{0x1f, 0x8b, 8, 0}, noise(1000)...),
		"a bit is wrong":  flipped,
		"more after it":   append(slices.Clone(good), "more"...),
		"a second frame":  append(slices.Clone(good), compress(t, make([]byte, 2<<20))...),
		"a huge window":   {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00},
		"only the header": good[:6],
	} {
		if _, err := unpackBytes(t, data, Options{}); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// What tar and zstd themselves may add is no garbage.
	padded := append(slices.Clone(good), compress(t, make([]byte, 10240))...)
	if _, err := unpackBytes(t, padded, Options{SHA256: sumOf(padded)}); err != nil {
		t.Errorf("with padding: %v", err)
	}
	if _, err := unpackBytes(t, padded, Options{SHA256: made.SHA256}); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "sha256") {
		t.Errorf("with another sum: got %v", err)
	}
}

func TestSources(t *testing.T) {
	dir := t.TempDir()
	for source, want := range map[string]error{
		filepath.Join(dir, "no"): api.ErrNotFound,
		dir:                      api.ErrInvalid,
		"relative":               api.ErrInvalid,
		"ftp://127.0.0.1/x":      api.ErrInvalid,
		"/dev/zero":              api.ErrInvalid,
	} {
		if _, err := Unpack(t.Context(), source, dir, Options{}); !errors.Is(err, want) {
			t.Errorf("%s: got %v", source, err)
		}
	}
}
