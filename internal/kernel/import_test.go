package kernel

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/hosttool"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
)

const ownRelease = "6.9.3-own+"

// own is a kernel of a user's, as a distribution would install it.
type own struct{ image, modules string }

// newOwn writes one whose modules are compressed with gzip, if at all.
func newOwn(t *testing.T, compress bool) own {
	t.Helper()
	dir := t.TempDir()
	o := own{image: filepath.Join(dir, "boot", "vmlinux"), modules: filepath.Join(dir, "lib", "modules", ownRelease)}
	write(t, o.image, vmlinuxOf(ownRelease))
	write(t, filepath.Join(o.modules, "modules.builtin"), []byte("kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio_mmio.ko\n"))
	for name, depends := range map[string]string{
		"virtio_ring": "", "virtio": "virtio_ring", "virtio_pci": "virtio,virtio_ring", "virtio_console": "virtio",
		"virtio_blk": "virtio", "virtio_net": "virtio", "overlay": "", "other": "",
	} {
		path, data := filepath.Join(o.modules, "kernel", name+".ko"), elfFile([]string{"depends=" + depends})
		if compress {
			path, data = path+".gz", gzipped(t, data)
		}
		write(t, path, data)
	}
	// As a kernel's own package and its headers leave them.
	for _, link := range []string{"build", "source"} {
		if err := os.Symlink("/usr/src/linux", filepath.Join(o.modules, link)); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// fakeDepmod puts a depmod first in PATH that only writes which modules there
// are.
func fakeDepmod(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\n[ \"$1 $3\" = '-b -a' ] && cd \"$2/usr/lib/modules/$4\" && find . -name '*.ko' | sort > modules.dep.bin\n"
	if err := os.WriteFile(filepath.Join(dir, "depmod"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// inExt4 returns the content of a file in a file system, or the names in a
// directory.
func inExt4(t *testing.T, image, command, path string) string {
	t.Helper()
	debugfs, err := hosttool.Tool{Name: "debugfs", Package: "e2fsprogs"}.Find()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(debugfs, "-R", command+" "+path, image).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// snapshot sums up all files below a directory.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		all[path] = fmt.Sprintf("%v %v %x", info.Mode(), info.ModTime(), sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestImport(t *testing.T) {
	fakeDepmod(t)
	for _, compress := range []bool{false, true} {
		store, root := newStore(t)
		o := newOwn(t, compress)
		before := snapshot(t, filepath.Dir(filepath.Dir(o.image)))
		got, err := store.Import(t.Context(), api.ImportKernel{Name: "mine", Image: o.image, Modules: o.modules}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.Name != "mine" || got.Release != ownRelease || got.Origin != api.OriginImported || got.Source != o.image || got.Arch != "amd64" {
			t.Errorf("got %+v", got)
		}
		if diff := cmp.Diff(before, snapshot(t, filepath.Dir(filepath.Dir(o.image)))); diff != "" {
			t.Errorf("the user's files changed: %s", diff)
		}
		k, err := store.Find(t.Context(), "mine")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, path := range k.BootModules {
			names = append(names, filepath.Base(path))
			if _, err := readModinfo(path); err != nil {
				t.Errorf("module %s: %v", path, err)
			}
		}
		want := "00-virtio_ring.ko 01-virtio.ko 02-virtio_pci.ko 03-virtio_console.ko 04-virtio_blk.ko 05-virtio_net.ko 06-overlay.ko"
		if diff := cmp.Diff(want, strings.Join(names, " ")); diff != "" {
			t.Error(diff)
		}
		index := inExt4(t, k.ModulesImage, "cat", "/"+ownRelease+"/modules.dep.bin")
		if !strings.Contains(index, "./kernel/other.ko\n") || strings.Count(index, "\n") != 8 {
			t.Errorf("indexed: %s", index)
		}
		if list := inExt4(t, k.ModulesImage, "ls -p", "/"+ownRelease); strings.Contains(list, "/build/") || !strings.Contains(list, "/modules.builtin/") {
			t.Errorf("in the file system: %s", list)
		}
		if entries, err := os.ReadDir(filepath.Join(root, "mine")); err != nil || len(entries) != 4 {
			t.Errorf("in the directory: %v, %v", entries, err)
		}
	}
}

// An index that fits is kept: the host may have no depmod.
func TestImportKeepsIndex(t *testing.T) {
	store, _ := newStore(t)
	o := newOwn(t, false)
	write(t, filepath.Join(o.modules, "modules.dep.bin"), []byte("the user's own"))
	shared := filepath.Join(t.TempDir(), "shared.ko")
	write(t, shared, elfFile([]string{"depends="}))
	if err := os.Symlink(shared, filepath.Join(o.modules, "shared.ko")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Import(t.Context(), api.ImportKernel{Name: "mine", Image: o.image, Modules: o.modules}, nil); err != nil {
		t.Fatal(err)
	}
	k, err := store.Find(t.Context(), "mine")
	if err != nil {
		t.Fatal(err)
	}
	if got := inExt4(t, k.ModulesImage, "cat", "/"+ownRelease+"/modules.dep.bin"); got != "the user's own" {
		t.Errorf("the index is %q", got)
	}
	if got := inExt4(t, k.ModulesImage, "cat", "/"+ownRelease+"/shared.ko"); got != string(elfFile([]string{"depends="})) {
		t.Errorf("a linked module has %d bytes", len(got))
	}
}

func TestImportWithoutModules(t *testing.T) {
	store, _ := newStore(t)
	data := vmlinuxOf(ownRelease)
	image := filepath.Join(t.TempDir(), "bzImage")
	write(t, image, vmlinuz(gzipped(t, data), uint32(len(data))))
	if _, err := store.Import(t.Context(), api.ImportKernel{Name: "mine", Image: image}, nil); err != nil {
		t.Fatal(err)
	}
	k, err := store.Find(t.Context(), "mine")
	if err != nil || len(k.BootModules) != 0 || k.Release != ownRelease {
		t.Fatalf("got %+v, %v", k, err)
	}
	if got, err := os.ReadFile(k.Vmlinux); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the kernel has %d bytes, %v", len(got), err)
	}
	if list := inExt4(t, k.ModulesImage, "ls -p", "/"); !strings.Contains(list, "/"+ownRelease+"/") {
		t.Errorf("in the file system: %s", list)
	}
}

func TestImportRefused(t *testing.T) {
	fakeDepmod(t)
	good := newOwn(t, false)
	noDisk := newOwn(t, false)
	if err := os.Remove(filepath.Join(noDisk.modules, "kernel", "virtio_blk.ko")); err != nil {
		t.Fatal(err)
	}
	damaged := newOwn(t, false)
	write(t, filepath.Join(damaged.modules, "kernel", "z.ko.gz"), []byte("no gzip"))
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	write(t, text, bytes.Repeat([]byte("no kernel "), 100))
	empty := filepath.Join(dir, "empty")
	write(t, empty, nil)
	otherRelease := filepath.Join(dir, "6.1.0")
	if err := os.CopyFS(otherRelease, os.DirFS(good.modules)); err != nil {
		t.Fatal(err)
	}
	unreadable := filepath.Join(dir, ownRelease)
	if err := os.Symlink(unreadable, unreadable); err != nil {
		t.Fatal(err)
	}

	store, root := newStore(t, recipeFor("generic-6.12", "amd64"))
	put(t, filepath.Join(root, "taken"), manifest{Name: "taken", Release: "6.1.2"})
	for _, tt := range []struct {
		name string
		req  api.ImportKernel
		code *api.Error
		err  string
	}{
		{"bad name", api.ImportKernel{Name: "../x", Image: good.image}, api.ErrInvalid, "can't be the name"},
		{"relative image", api.ImportKernel{Name: "x", Image: "vmlinux"}, api.ErrInvalid, "must be absolute"},
		{"relative modules", api.ImportKernel{Name: "x", Image: good.image, Modules: "lib"}, api.ErrInvalid, "must be absolute"},
		{"name of the catalog", api.ImportKernel{Name: "generic-6.12", Image: good.image}, api.ErrInvalid, "of the catalog"},
		{"name taken", api.ImportKernel{Name: "taken", Image: good.image}, api.ErrExists, "there is a kernel taken"},
		{"no image", api.ImportKernel{Name: "x", Image: "/nonexistent"}, api.ErrInvalid, "no such file"},
		{"a directory", api.ImportKernel{Name: "x", Image: dir}, api.ErrInvalid, "it is no file"},
		{"a device", api.ImportKernel{Name: "x", Image: "/dev/zero"}, api.ErrInvalid, "it is no file"},
		{"a text", api.ImportKernel{Name: "x", Image: text}, api.ErrInvalid, "not an x86 kernel"},
		{"an empty file", api.ImportKernel{Name: "x", Image: empty}, api.ErrInvalid, "not an x86 kernel"},
		{"another release", api.ImportKernel{Name: "x", Image: good.image, Modules: otherRelease}, api.ErrInvalid, "the modules are of 6.1.0"},
		{"no modules", api.ImportKernel{Name: "x", Image: good.image, Modules: "/nonexistent/" + ownRelease}, api.ErrInvalid, "no such file"},
		{"unreadable modules", api.ImportKernel{Name: "x", Image: good.image, Modules: unreadable}, api.ErrInvalid, "too many links"},
		{"a damaged module", api.ImportKernel{Name: "x", Image: damaged.image, Modules: damaged.modules}, api.ErrInvalid, "z.ko.gz"},
		{"no driver for disks", api.ImportKernel{Name: "x", Image: noDisk.image, Modules: noDisk.modules}, api.ErrInvalid, "no module virtio_blk"},
	} {
		_, err := store.Import(t.Context(), tt.req, nil)
		if !errors.Is(err, tt.code) || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.err)
		}
		if entries, err := os.ReadDir(root); err != nil || len(entries) != 1 {
			t.Errorf("%s: left %v, %v", tt.name, entries, err)
		}
	}
}
