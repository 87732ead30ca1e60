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
	"banger/internal/paths"

	"github.com/google/go-cmp/cmp"
)

// newStore returns a store and its directory.
func newStore(t *testing.T) (*Store, string) {
	t.Helper()
	layout := paths.Layout{Data: t.TempDir()}
	return New(layout, slog.New(slog.DiscardHandler)), layout.KernelsDir()
}

// put writes the files of a kernel.
func put(t *testing.T, dir string, m manifest) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, bootDir), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{vmlinuxFile, modulesFile}, m.BootModules...) {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, ".ko") {
			path = filepath.Join(dir, bootDir, name)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeManifest(dir, m); err != nil {
		t.Fatal(err)
	}
}

func TestGet(t *testing.T) {
	store, root := newStore(t)
	dir := filepath.Join(root, "mine")
	put(t, dir, manifest{Name: "mine", Release: "6.1", Version: "6.1-2", BootModules: []string{"00-a.ko", "01-b.ko"}})
	got, err := store.Get("mine")
	if err != nil {
		t.Fatal(err)
	}
	want := Kernel{
		Name: "mine", Release: "6.1", Version: "6.1-2", Dir: dir,
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
	if all, err := store.List(); err != nil || len(all) != 1 {
		t.Errorf("List: %+v, %v", all, err)
	}
	if err := os.Remove(filepath.Join(dir, "boot/01-b.ko")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get("mine"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("with a missing file: %v", err)
	}
}

func TestUnknown(t *testing.T) {
	store, _ := newStore(t)
	for _, name := range []string{"nope", "", "../x"} {
		_, getErr := store.Get(name)
		_, ensureErr := store.Ensure(t.Context(), name, nil)
		for _, err := range []error{getErr, ensureErr} {
			if !errors.Is(err, api.ErrNotFound) {
				t.Errorf("%q: got %v, want not found", name, err)
				continue
			}
			for _, known := range Names() {
				if hint := api.AsError(err).Hint; !strings.Contains(hint, known) {
					t.Errorf("%q: the hint %q does not name %s", name, hint, known)
				}
			}
		}
	}
	for _, name := range Names() {
		if _, err := store.Get(name); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("Get(%s) before it is made: %v", name, err)
		}
	}
}

func TestDamagedManifest(t *testing.T) {
	store, root := newStore(t)
	dir := filepath.Join(root, "mine")
	put(t, dir, manifest{Name: "mine"})
	if err := os.WriteFile(filepath.Join(dir, manifestFile), []byte(`{"name": "mi`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := store.Get("mine")
	if err == nil || !strings.Contains(api.AsError(err).Hint, dir) {
		t.Errorf("got %v, want an error whose hint names the directory", err)
	}
}

// A cancelled call must not start a build.
func TestEnsureCancelled(t *testing.T) {
	names := Names()
	if len(names) == 0 {
		t.Skip("no kernels for this machine")
	}
	store, root := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Ensure(ctx, names[0], nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if entries, err := os.ReadDir(root); err == nil && len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}
