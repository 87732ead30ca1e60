package recipe

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/catalog"
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
	r := catalog.ImageRecipe{
		Empty:    []string{"dev", "sys"},
		Remove:   []string{"etc/hostname", "etc/missing", "root/.ssh"},
		Masked:   []string{"a.service", "b.timer"},
		RealDirs: []string{"/var/lib/docker", "/root"},
	}
	if err := customise(tree, r); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"etc/fstab -rw------- etc/fstab",
		"etc/systemd/system/a.service -> /dev/null",
		"etc/systemd/system/b.timer -> /dev/null",
		"etc/systemd/system/keep.service -rw------- etc/systemd/system/keep.service",
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
	for name, r := range map[string]catalog.ImageRecipe{
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
