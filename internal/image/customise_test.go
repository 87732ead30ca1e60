package image

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// newTree makes a tree with the given files, whose content is their name.
func newTree(t *testing.T, files ...string) string {
	t.Helper()
	tree := t.TempDir()
	for _, name := range files {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// look returns what is in a tree: "path mode content", without directories.
func look(t *testing.T, tree string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			all = append(all, rel+" -> "+target)
			return err
		}
		data, err := os.ReadFile(path)
		all = append(all, rel+" "+info.Mode().String()+" "+string(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestCustomise(t *testing.T) {
	tree := newTree(t, "dev/null", "dev/shm/x", "etc/hostname", "etc/fstab",
		"etc/systemd/system/a.service", "etc/systemd/system/keep.service", "root/.ssh/id")
	r := recipe{
		Empty:    []string{"dev", "sys"},
		Remove:   []string{"etc/hostname", "etc/missing", "root/.ssh"},
		Masked:   []string{"a.service", "b.timer"},
		Files:    []file{{"etc/fstab", 0o644, "new"}, {"new/dir/file", 0o755, "script"}, {"etc/id", 0o444, ""}},
		RealDirs: []string{"/var/lib/docker", "/root"},
	}
	if err := customise(tree, r); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"etc/fstab -rw-r--r-- new",
		"etc/id -r--r--r-- ",
		"etc/systemd/system/a.service -> /dev/null",
		"etc/systemd/system/b.timer -> /dev/null",
		"etc/systemd/system/keep.service -rw------- etc/systemd/system/keep.service",
		"new/dir/file -rwxr-xr-x script",
	}
	if diff := cmp.Diff(want, look(t, tree)); diff != "" {
		t.Error(diff)
	}
	for _, dir := range []string{"dev", "var/lib/docker", "root"} {
		if info, err := os.Stat(filepath.Join(tree, dir)); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// A link in the tree must not make a build, which runs as root, write to the
// host.
func TestCustomiseStaysInside(t *testing.T) {
	outside := newTree(t, "precious", "systemd/system/x")
	for name, r := range map[string]recipe{
		"file":  {Files: []file{{"etc/new", 0o644, "x"}}},
		"empty": {Empty: []string{"etc"}},
		"mask":  {Masked: []string{"x"}},
		"rm":    {Remove: []string{"etc/precious"}},
		"dots":  {Remove: []string{"../../precious"}},
		"dir":   {RealDirs: []string{"/etc/new"}},
	} {
		tree := t.TempDir()
		if err := os.Symlink(outside, filepath.Join(tree, "etc")); err != nil {
			t.Fatal(err)
		}
		if err := customise(tree, r); err == nil {
			t.Errorf("%s: no error", name)
		}
		want := []string{"precious -rw------- precious", "systemd/system/x -rw------- systemd/system/x"}
		if diff := cmp.Diff(want, look(t, outside)); diff != "" {
			t.Errorf("%s changed the outside: %s", name, diff)
		}
		if entries, err := os.ReadDir(outside); err != nil || len(entries) != 2 {
			t.Errorf("%s changed the outside: %v, %v", name, entries, err)
		}
	}
}

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

// Mistakes in a recipe would show only after minutes of building.
func TestCatalog(t *testing.T) {
	for name, r := range catalog() {
		if r.Distro == "" || r.Arch == "" || r.Suite == "" || r.Kernel == "" {
			t.Errorf("%s: a field is empty: %+v", name, r)
		}
		for _, p := range r.Packages {
			if strings.ContainsAny(p, ", ") {
				t.Errorf("%s: package %q would be split", name, p)
			}
		}
		paths := append(append([]string{}, r.Empty...), r.Remove...)
		for _, f := range r.Files {
			paths = append(paths, f.Path)
			if f.Mode == 0 {
				t.Errorf("%s: %s has no mode", name, f.Path)
			}
		}
		for _, p := range paths {
			if !filepath.IsLocal(p) {
				t.Errorf("%s: %s leads out of the tree", name, p)
			}
		}
		for _, dir := range r.RealDirs {
			if !filepath.IsAbs(dir) {
				t.Errorf("%s: the real directory %s is not absolute", name, dir)
			}
		}
		for _, unit := range r.Masked {
			if strings.Contains(unit, "/") || !strings.Contains(unit, ".") {
				t.Errorf("%s: %q is not a unit", name, unit)
			}
		}
	}
}
