package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/bundle"
)

// hostile makes a bundle of a kernel's directory after change has been at it.
// Files that change returns are added under other names.
func hostile(t *testing.T, change func(dir string, m *manifest) []bundle.File) string {
	t.Helper()
	dir := t.TempDir()
	m := manifest{Release: "6.1.2", Arch: "amd64", Version: "6.1.2-1", BootModules: []string{"00-a.ko", "01-b.ko"}}
	put(t, dir, m)
	m, err := readManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := []bundle.File{{Name: manifestFile, Path: filepath.Join(dir, manifestFile)}}
	more := change(dir, &m)
	if err := writeManifest(dir, m); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{vmlinuxFile, modulesFile, "boot/00-a.ko", "boot/01-b.ko"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			files = append(files, bundle.File{Name: name, Path: path})
		}
	}
	path := filepath.Join(t.TempDir(), "k.tar.zst")
	if _, err := bundle.Create(t.Context(), path, append(files, more...), nil); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHostileBundles(t *testing.T) {
	modules := func(names ...string) func(string, *manifest) []bundle.File {
		return func(_ string, m *manifest) []bundle.File { m.BootModules = names; return nil }
	}
	field := func(f func(m *manifest)) func(string, *manifest) []bundle.File {
		return func(_ string, m *manifest) []bundle.File { f(m); return nil }
	}
	write := func(name, text string) func(string, *manifest) []bundle.File {
		return func(dir string, _ *manifest) []bundle.File {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return nil
		}
	}
	without := func(name string) func(string, *manifest) []bundle.File {
		return func(dir string, _ *manifest) []bundle.File {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			return nil
		}
	}
	extra := func(name string) func(string, *manifest) []bundle.File {
		return func(dir string, _ *manifest) []bundle.File {
			return []bundle.File{{Name: name, Path: filepath.Join(dir, vmlinuxFile)}}
		}
	}
	for _, tt := range []struct {
		name   string
		change func(dir string, m *manifest) []bundle.File
		err    string
	}{
		{"release with a path", field(func(m *manifest) { m.Release = "6.1/../../../etc" }), "its release is"},
		{"release of nothing", field(func(m *manifest) { m.Release = "" }), "its release is"},
		{"another release", field(func(m *manifest) { m.Release = "6.1.3" }), "its kernel is 6.1.2"},
		{"version with control characters", field(func(m *manifest) { m.Version = "1\x1b[2J" }), "its version is"},
		{"another machine", field(func(m *manifest) { m.Arch = "arm64" }), `it is for "arm64" machines`},
		{"another sum", field(func(m *manifest) { m.VmlinuxSHA256 = strings.Repeat("0", 64) }), "the manifest says 6.1.2"},
		{"module outside", modules("00-a.ko", "../../../../etc/passwd"), `"../../../../etc/passwd" can't be a module`},
		{"module with an absolute path", modules("/etc/passwd"), "can't be a module"},
		{"module that is a directory", modules("."), "can't be a module"},
		{"the kernel as a module", modules("00-a.ko", "../vmlinux"), "can't be a module"},
		{"module that is missing", modules("00-a.ko", "01-b.ko", "02-c.ko"), "its modules for the boot are"},
		{"module that isn't named", modules("00-a.ko"), "its modules for the boot are"},
		{"modules in another order", modules("01-b.ko", "00-a.ko"), "its modules for the boot are"},
		{"module twice", modules("00-a.ko", "00-a.ko", "01-b.ko"), "its modules for the boot are"},
		{"no kernel", without(vmlinuxFile), "no such file"},
		{"no modules", without(modulesFile), "no such file"},
		{"a text as kernel", write(vmlinuxFile, strings.Repeat("no ELF ", 20)), "no ELF file"},
		{"a text as file system", write(modulesFile, strings.Repeat("no ext4 ", 1000)), "no ext4 file system"},
		{"nothing as file system", write(modulesFile, ""), "no ext4 file system"},
		{"a file too many", extra("init"), "no use for the file"},
		{"a file in boot/", extra("boot/x.sh"), "no use for the file"},
		{"a directory in boot/", extra("boot/x/00-a.ko"), "no use for the file"},
	} {
		store, root := newStore(t)
		_, err := store.Pull(t.Context(), api.PullKernel{Ref: hostile(t, tt.change)}, nil)
		if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.err)
		}
		if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
			t.Errorf("%s: left %v, %v", tt.name, entries, err)
		}
	}
	store, root := newStore(t)
	ref := hostile(t, field(func(m *manifest) { m.Name = "../../x" }))
	if _, err := store.Pull(t.Context(), api.PullKernel{Ref: ref}, nil); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("name with a path: %v", err)
	}
	// What has no power is just not taken over.
	ref = hostile(t, field(func(m *manifest) {
		m.Origin, m.Source, m.Suite, m.Package = api.OriginImported, "/etc/passwd", "\x1b", "\x1b"
	}))
	if _, err := store.Pull(t.Context(), api.PullKernel{Ref: ref}, nil); err != nil {
		t.Fatal(err)
	}
	m, err := readManifest(filepath.Join(root, "k"))
	if err != nil || m.Name != "k" || m.Origin != api.OriginBundle || m.Source != ref || m.Suite+m.Package != "" {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestExportErrors(t *testing.T) {
	store, root := newStore(t)
	if _, err := store.Export(t.Context(), "nope", api.ExportImage{Path: "/tmp/x"}, nil); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
	put(t, filepath.Join(root, "mine"), manifest{Name: "mine", Release: "6.1.2"})
	if _, err := store.Export(t.Context(), "mine", api.ExportImage{Path: "x.tar.zst"}, nil); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("to a relative path: %v", err)
	}
	if err := store.Delete(t.Context(), "mine"); err != nil {
		t.Errorf("after it, the kernel is still held: %v", err)
	}
	if entries, err := os.ReadDir(store.layout.Cache); err != nil || len(entries) > 0 {
		t.Errorf("left in the cache: %v, %v", entries, err)
	}
}

func TestBundleName(t *testing.T) {
	for ref, want := range map[string]string{
		"/media/generic-6.12.tar.zst":               "generic-6.12",
		"https://host.test/a/generic-6.1.zst?x=a/b": "generic-6.1",
		"https://host.test/":                        "/",
		"https://host.test":                         ".",
		"/srv/own.bundle":                           "own",
	} {
		if got := bundle.NameOf(ref); got != want {
			t.Errorf("%s: got %q, want %q", ref, got, want)
		}
	}
}
