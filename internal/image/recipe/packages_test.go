package recipe

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestListPackages(t *testing.T) {
	tree := newTree(t, "var/lib/dpkg/status")
	status := `Package: zlib1g
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 1:1.2.13.dfsg-1
Description: compression library
 Package: not a field

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: apt
Status: install ok installed
Architecture: amd64
Version: 2.6.1
`
	if err := os.WriteFile(filepath.Join(tree, "var/lib/dpkg/status"), []byte(status), 0o600); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "packages.txt")
	if err := listPackages(tree, target); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	want := "apt 2.6.1 amd64\nzlib1g 1:1.2.13.dfsg-1 amd64\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	if err := listPackages(t.TempDir(), target); err == nil {
		t.Error("no error without dpkg's list")
	}
}
