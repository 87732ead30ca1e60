package kernel

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/depot"
	"banger/internal/paths"

	"github.com/google/go-cmp/cmp"
)

// newStore returns a store with a catalog of its own, and its directory.
func newStore(t *testing.T, entries ...catalog.Kernel) (*Store, string) {
	t.Helper()
	home := t.TempDir()
	layout := paths.Layout{Data: filepath.Join(home, "data"), Cache: filepath.Join(home, "cache")}
	s := New(Config{
		Layout:  layout,
		Catalog: func(context.Context) catalog.Catalog { return catalog.Catalog{Kernels: entries} },
		Log:     slog.New(slog.DiscardHandler),
	})
	s.arch = "amd64" // tests run on any machine
	s.build = func(context.Context, manifest, catalog.KernelRecipe, string, depot.Report, *slog.Logger) error {
		return errors.New("no test may build a kernel")
	}
	return s, layout.KernelsDir()
}

// recipeFor returns an entry of the catalog with a recipe.
func recipeFor(name, arch string) catalog.Kernel {
	return catalog.Kernel{Name: name, Description: "of a test", Arch: []string{arch}, DiskBytes: 200,
		Recipe: &catalog.KernelRecipe{Suite: "trixie", Package: map[string]string{arch: "linux-image"}, DownloadBytes: 100}}
}

// put writes the files of a kernel that load as m says.
func put(t *testing.T, dir string, m manifest) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, bootDir), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(vmlinuxFile, vmlinuxOf(m.Release))
	fileSystem := make([]byte, 4096)
	copy(fileSystem[1024+0x38:], "\x53\xef")
	write(modulesFile, fileSystem)
	for _, name := range m.BootModules {
		write(filepath.Join(bootDir, name), elfFile([]string{"name=" + name}))
	}
	v, err := readVmlinux(filepath.Join(dir, vmlinuxFile))
	if err != nil {
		t.Fatal(err)
	}
	m.VmlinuxBytes, m.VmlinuxSHA256, m.ModulesBytes = v.Bytes, v.SHA256, int64(len(fileSystem))
	if err := writeManifest(dir, m); err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	store, root := newStore(t)
	dir := filepath.Join(root, "mine")
	put(t, dir, manifest{
		Name: "mine", Release: "6.1.2", Version: "6.1-2", Arch: "amd64",
		Origin: api.OriginImported, Source: "/boot/x", BootModules: []string{"00-a.ko", "01-b.ko"},
	})
	got, err := store.Find(t.Context(), "mine")
	if err != nil {
		t.Fatal(err)
	}
	want := Kernel{
		Name: "mine", Release: "6.1.2", Version: "6.1-2", Arch: "amd64",
		Origin: api.OriginImported, Source: "/boot/x", Dir: dir,
		Vmlinux: filepath.Join(dir, "vmlinux"), ModulesImage: filepath.Join(dir, "modules.ext4"),
		BootModules: []string{filepath.Join(dir, "boot/00-a.ko"), filepath.Join(dir, "boot/01-b.ko")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// One that is there needs no recipe.
	if ensured, err := store.Ensure(t.Context(), "mine", nil); err != nil || ensured.Dir != dir {
		t.Errorf("Ensure: %+v, %v", ensured, err)
	}
	held, release, err := store.Use(t.Context(), "mine", nil)
	if err != nil || held.Dir != dir {
		t.Fatalf("Hold: %+v, %v", held, err)
	}
	if err := store.Delete(t.Context(), "mine"); !errors.Is(err, api.ErrConflict) {
		t.Errorf("delete a held one: %v", err)
	}
	release()
	if err := os.Remove(filepath.Join(dir, "boot/01-b.ko")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Find(t.Context(), "mine"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("with a missing file: %v", err)
	}
}

// The manifests of earlier versions have no origin.
func TestOldManifest(t *testing.T) {
	store, root := newStore(t)
	put(t, filepath.Join(root, "generic-6.12"), manifest{Name: "generic-6.12", Release: "6.12.1", Arch: "amd64", Suite: "trixie", Package: "x"})
	k, err := store.Find(t.Context(), "generic-6.12")
	if err != nil || k.Origin != api.OriginRecipe || k.Source != "catalog generic-6.12" {
		t.Errorf("got %+v, %v", k, err)
	}
}

func TestUnknown(t *testing.T) {
	store, _ := newStore(t, recipeFor("generic-6.12", "amd64"), recipeFor("other-machine", "arm64"))
	for _, name := range []string{"nope", "", "../x", "other-machine"} {
		_, findErr := store.Find(t.Context(), name)
		_, ensureErr := store.Ensure(t.Context(), name, nil)
		_, pullErr := store.Pull(t.Context(), api.PullKernel{Ref: name}, nil)
		for _, err := range []error{findErr, ensureErr, pullErr, store.Delete(t.Context(), name)} {
			if !errors.Is(err, api.ErrNotFound) {
				t.Errorf("%q: got %v, want not found", name, err)
				continue
			}
			if hint := api.AsError(err).Hint; !strings.Contains(hint, "generic-6.12;") {
				t.Errorf("%q: the hint %q does not name what there is", name, hint)
			}
		}
	}
	_, err := store.Find(t.Context(), "generic-6.12")
	if !errors.Is(err, api.ErrNotFound) || !strings.Contains(api.AsError(err).Hint, "kernel pull generic-6.12") {
		t.Errorf("before it is made: %v", err)
	}
}

func TestDamagedManifest(t *testing.T) {
	store, root := newStore(t)
	dir := filepath.Join(root, "mine")
	put(t, dir, manifest{Name: "mine", Release: "6.1.2"})
	if err := os.WriteFile(filepath.Join(dir, manifestFile), []byte(`{"name": "mi`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := store.Find(t.Context(), "mine")
	if err == nil || !strings.Contains(api.AsError(err).Hint, dir) {
		t.Errorf("got %v, want an error whose hint names the directory", err)
	}
	if err := store.Delete(t.Context(), "mine"); err != nil {
		t.Errorf("delete it: %v", err)
	}
}

// A cancelled call must not start a build.
func TestEnsureCancelled(t *testing.T) {
	store, root := newStore(t, recipeFor("generic-6.12", "amd64"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Ensure(ctx, "generic-6.12", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if entries, err := os.ReadDir(root); err == nil && len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}
