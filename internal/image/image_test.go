package image

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
	return New(layout, slog.New(slog.DiscardHandler)), layout.ImagesDir()
}

// put writes the files of an image.
func put(t *testing.T, dir string, m manifest) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, rootfsFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeManifest(dir, m); err != nil {
		t.Fatal(err)
	}
}

func TestGet(t *testing.T) {
	store, root := newStore(t)
	dir := filepath.Join(root, "mine")
	put(t, dir, manifest{
		Name: "mine", Distro: "debian sid", Arch: "amd64", Kernel: "k",
		RealDirs: []string{"/root"}, SizeBytes: 42,
	})
	got, err := store.Get("mine")
	if err != nil {
		t.Fatal(err)
	}
	want := Image{
		Name: "mine", Distro: "debian sid", Arch: "amd64", Kernel: "k",
		Rootfs: filepath.Join(dir, "rootfs.ext4"), Dir: dir, RealDirs: []string{"/root"}, SizeBytes: 42,
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
	if err := os.Remove(filepath.Join(dir, rootfsFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get("mine"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("without its file system: %v", err)
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
		t.Skip("no images for this machine")
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
