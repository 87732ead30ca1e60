package recipe

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/catalog"
	"banger/internal/tartest"
)

// writePackage writes a package of npm's, compressed.
func writePackage(t *testing.T, data []byte) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "p.tgz")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// packageOf is a package of regular files; the same name may come twice.
func packageOf(names ...string) []byte {
	var entries []tartest.Entry
	for _, name := range names {
		entries = append(entries, tartest.Entry{
			Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: 1}, Content: []byte("x"),
		})
	}
	return tartest.Tar(entries)
}

// A file that comes twice doesn't stand for another one that is missing.
func TestNPMFilesThatComeTwice(t *testing.T) {
	p := catalog.NPMPackage{Install: map[string]string{"a": "usr/bin/a", "b": "usr/bin/b"}}
	file := writePackage(t, packageOf("package/a", "package/a"))
	if err := addFiles(file, p, newArchive(io.Discard)); err == nil || !strings.Contains(err.Error(), "lacks 1 of the files") {
		t.Errorf("got %v", err)
	}
}

func TestNPMPackageTooBig(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "package/a", Size: maxNPM + 1}); err != nil {
		t.Fatal(err)
	}
	p := catalog.NPMPackage{Directory: "usr/lib/p"}
	if err := addFiles(writePackage(t, b.Bytes()), p, newArchive(io.Discard)); err == nil || !strings.Contains(err.Error(), "MiB") {
		t.Errorf("got %v", err)
	}
}

// FuzzNPM takes what a recipe wants out of packages that no npm has made.
func FuzzNPM(f *testing.F) {
	f.Add(packageOf("package/bin/tool", "package/lib/x.js", "package/../../etc/passwd", "/package/y"), true)
	f.Add(packageOf("package/bin/tool", "package/bin/tool"), false)
	f.Add(tartest.Tar(tartest.Entries([]byte{0, 3, 0x64, 2, 2, 0, 1, 2, 0, 0, 0, 1, 2, 2, 4, 0})), true)
	f.Fuzz(func(t *testing.T, data []byte, whole bool) {
		p := catalog.NPMPackage{Install: map[string]string{"bin/tool": "usr/bin/tool"}}
		if whole {
			p.Directory = "usr/lib/node_modules/tool"
		}
		var out bytes.Buffer
		archive := newArchive(&out)
		if addFiles(writePackage(t, tartest.Checksums(data)), p, archive) != nil {
			return
		}
		if err := archive.close(); err != nil {
			t.Fatal(err)
		}
		missing := maps.Clone(p.Install)
		for r := tar.NewReader(&out); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			installed := h.Name == "usr/bin/tool"
			if h.Typeflag != tar.TypeReg || h.Mode&^0o755 != 0 || !filepath.IsLocal(h.Name) ||
				!installed && (!whole || !strings.HasPrefix(h.Name, p.Directory+"/")) {
				t.Errorf("%q, of type %q and mode %o, is added", h.Name, h.Typeflag, h.Mode)
			}
			if installed {
				delete(missing, "bin/tool")
			}
		}
		if len(missing) > 0 {
			t.Errorf("%v is missing and isn't missed", missing)
		}
	})
}
