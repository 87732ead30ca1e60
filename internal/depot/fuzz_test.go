package depot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/naming"
)

// FuzzName takes names as users, catalogs and bundles give them: for images and
// for kernels.
func FuzzName(f *testing.F) {
	for _, name := range []string{"debian-bookworm", "generic-6.1", "A_b.c", "..", ".", "", "-rf", "a/b", "a\n", "a\x00", "é", tempPrefix + "x", strings.Repeat("n", 64)} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if !naming.IsStored(name) {
			return
		}
		dir := t.TempDir()
		if !filepath.IsLocal(name) || filepath.Base(name) != name || strings.HasPrefix(name, ".") || len(name) > 63 {
			t.Errorf("%q can be the name of a directory here", name)
		}
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Error(err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || entries[0].Name() != name {
			t.Errorf("%q became %v (%v)", name, entries, err)
		}
		if strings.HasPrefix(name, "-") {
			t.Errorf("%q is an option", name)
		}
		unsafe := func(r rune) bool {
			return r <= ' ' || r >= 0x7f || strings.ContainsRune("/\\,=;:'\"`$&|<>(){}[]*?!#~%^@+", r)
		}
		if strings.ContainsFunc(name, unsafe) {
			t.Errorf("%q means something to a shell, QEMU or a terminal", name)
		}
	})
}
