package recipe

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
	"banger/internal/catalog"
)

// fakeNPM puts an npm on PATH that "fetches" a package with one program, and
// returns the package's integrity.
func fakeNPM(t *testing.T) string {
	t.Helper()
	var tgz bytes.Buffer
	z := gzip.NewWriter(&tgz)
	w := tar.NewWriter(z)
	for name, content := range map[string]string{"package/bin/tool": "program", "package/README.md": "text"} {
		mode := int64(0o644)
		if strings.Contains(name, "/bin/") {
			mode = 0o755
		}
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(content))
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tool.tgz"), tgz.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	// The package asked for is the last argument; scripts must be off.
	script := `#!/bin/sh
case "$*" in *--ignore-scripts*@acme/tool@1.2.3) ;; *) echo "npm error: $*" >&2; exit 1 ;; esac
while [ "$1" != --pack-destination ]; do shift; done
cp '` + dir + `/tool.tgz' "$2/acme-tool-1.2.3.tgz"
`
	if err := os.WriteFile(filepath.Join(dir, "npm"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	sum := sha512.Sum512(tgz.Bytes())
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

// content reads a tar: "path mode content".
func content(t *testing.T, r io.Reader) []string {
	t.Helper()
	var all []string
	for tr := tar.NewReader(r); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, hdr.Name+" "+hdr.FileInfo().Mode().String()+" "+string(data))
	}
}

func TestFetch(t *testing.T) {
	tool := catalog.NPMPackage{
		Arch: "amd64", Package: "@acme/tool", Version: "1.2.3", Integrity: fakeNPM(t),
		Install: map[string]string{"bin/tool": "usr/local/bin/tool"},
	}
	other := catalog.NPMPackage{Arch: "arm64", Package: "never", Version: "1.0.0"}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	report := func(string, int) {}
	r := catalog.ImageRecipe{
		NPM:   []catalog.NPMPackage{tool, other},
		Files: []catalog.File{{Path: "etc/tool.conf", Mode: 0o4600, Content: "x"}, {Path: "etc/empty", Mode: 0o444}},
	}
	work := t.TempDir()
	path, err := fetch(t.Context(), r, "amd64", work, report, log)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := []string{
		"usr/local/bin/tool -rwxr-xr-x program",
		"etc/tool.conf urw------- x",
		"etc/empty -r--r--r-- ",
	}
	if diff := cmp.Diff(want, content(t, f)); diff != "" {
		t.Error(diff)
	}
	if left, _ := filepath.Glob(filepath.Join(work, "*")); len(left) != 1 {
		t.Errorf("more than the archive was left: %q", left)
	}

	whole := tool
	whole.Install, whole.Directory = nil, "usr/local/lib/node_modules/tool"
	r.NPM, r.Files = []catalog.NPMPackage{whole}, nil
	if path, err = fetch(t.Context(), r, "amd64", t.TempDir(), report, log); err != nil {
		t.Fatal(err)
	}
	all, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	want = []string{
		"usr/local/lib/node_modules/tool/README.md -rw-r--r-- text",
		"usr/local/lib/node_modules/tool/bin/tool -rwxr-xr-x program",
	}
	got := content(t, all)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a whole package (-want +got):\n%s", diff)
	}

	for name, c := range map[string]struct {
		change func(*catalog.NPMPackage)
		want   string
	}{
		"hash":    {func(p *catalog.NPMPackage) { p.Integrity = strings.Replace(p.Integrity, "sha512-", "sha512-A", 1) }, "the recipe wants"},
		"file":    {func(p *catalog.NPMPackage) { p.Install = map[string]string{"bin/no": "usr/bin/no"} }, "lacks 1 of the files"},
		"version": {func(p *catalog.NPMPackage) { p.Version = "9.9.9" }, "npm error: pack"},
	} {
		bad := tool
		c.change(&bad)
		r.NPM = []catalog.NPMPackage{bad}
		if _, err := fetch(t.Context(), r, "amd64", t.TempDir(), report, log); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}

	t.Setenv("PATH", t.TempDir())
	if _, err := os.Stat("/usr/sbin/npm"); err != nil {
		r.NPM = []catalog.NPMPackage{tool}
		var e *api.Error
		if _, err := fetch(t.Context(), r, "amd64", t.TempDir(), report, log); !errors.As(err, &e) || !strings.Contains(e.Hint, "npm") {
			t.Errorf("without npm: got %v", err)
		}
	}
}
