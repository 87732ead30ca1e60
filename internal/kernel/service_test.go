package kernel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/catalog"

	"github.com/google/go-cmp/cmp"
)

func TestListAndGet(t *testing.T) {
	store, root := newStore(t)
	if all, err := store.List(t.Context()); err != nil || all == nil || len(all) != 0 {
		t.Errorf("of nothing: %v, %v", all, err)
	}
	put(t, filepath.Join(root, "b"), manifest{Name: "b", Release: "6.1.2", Arch: "amd64", Origin: api.OriginBundle, Source: "/b"})
	put(t, filepath.Join(root, "a"), manifest{Name: "a", Release: "6.1.2", Arch: "amd64", Origin: api.OriginBundle, Source: "/a"})
	store.SetInUse(func(_ context.Context, name string) ([]string, error) {
		if name == "a" {
			return []string{"image web", "vm dev"}, nil
		}
		return nil, nil
	})
	all, err := store.List(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("got %+v, %v", all, err)
	}
	if diff := cmp.Diff([]string{"image web", "vm dev"}, all[0].UsedBy); diff != "" || all[0].Name != "a" {
		t.Errorf("%s: %s", all[0].Name, diff)
	}
	one, err := store.Get(t.Context(), "b")
	if diff := cmp.Diff(all[1], one); diff != "" || err != nil || one.UsedBy == nil || one.DiskBytes < 8192 {
		t.Errorf("got %+v, %v: %s", one, err, diff)
	}
	if err := os.WriteFile(filepath.Join(root, "b", manifestFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err = store.List(t.Context())
	if err != nil || len(all) != 2 || all[0].Damaged != "" || all[1].Name != "b" || all[1].Damaged == "" || all[1].UsedBy == nil {
		t.Errorf("with a damaged one: %+v, %v", all, err)
	}
	broken := errors.New("broken")
	store.SetInUse(func(context.Context, string) ([]string, error) { return nil, broken })
	if _, err := store.List(t.Context()); !errors.Is(err, broken) {
		t.Errorf("users unknown: %v", err)
	}
	if err := store.Delete(t.Context(), "b"); !errors.Is(err, broken) {
		t.Errorf("delete with users unknown: %v", err)
	}
}

func TestCatalog(t *testing.T) {
	bundled := recipeFor("bundled", "amd64")
	bundled.Bundles = []catalog.Bundle{{Arch: "amd64", Bytes: 7}, {Arch: "arm64", Bytes: 8}}
	store, root := newStore(t, bundled, recipeFor("built", "amd64"), recipeFor("other-machine", "arm64"))
	put(t, filepath.Join(root, "built"), manifest{Name: "built", Release: "6.1.2"})
	got, err := store.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []api.CatalogEntry{
		{Name: "bundled", Description: "of a test", Arch: []string{"amd64"}, DownloadBytes: 7, DiskBytes: 200, Origin: api.OriginBundle},
		{Name: "built", Description: "of a test", Arch: []string{"amd64"}, DownloadBytes: 100, DiskBytes: 200, Origin: api.OriginRecipe, Here: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	store.arch = "arm64"
	if got, err := store.Catalog(t.Context()); err != nil || got == nil || len(got) != 0 {
		t.Errorf("on a machine without: %+v, %v", got, err)
	}
}

// The catalog's kernels must have what build needs.
func TestEmbeddedCatalog(t *testing.T) {
	store, _ := newStore(t, catalog.Embedded().Kernels...)
	entries, err := store.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	for _, name := range []string{"generic-6.12", "generic-6.1"} {
		if !strings.Contains(strings.Join(names, " ")+" ", name+" ") {
			t.Errorf("%s is not among %v", name, names)
		}
	}
}

func TestDelete(t *testing.T) {
	store, root := newStore(t)
	put(t, filepath.Join(root, "mine"), manifest{Name: "mine", Release: "6.1.2"})
	users := []string{"image web", "vm dev"}
	store.SetInUse(func(context.Context, string) ([]string, error) { return users, nil })
	err := store.Delete(t.Context(), "mine")
	if !errors.Is(err, api.ErrConflict) || !strings.Contains(err.Error(), "image web, vm dev") || api.AsError(err).Hint == "" {
		t.Errorf("in use: %v", err)
	}
	users = nil
	if err := store.Delete(t.Context(), "mine"); err != nil {
		t.Errorf("not in use: %v", err)
	}
	if err := store.Delete(t.Context(), "mine"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("once more: %v", err)
	}
}

func TestPrune(t *testing.T) {
	store, root := newStore(t, recipeFor("unused", "amd64"), recipeFor("used", "amd64"), recipeFor("same-name", "amd64"), recipeFor("bundle", "amd64"))
	for _, m := range []manifest{
		{Name: "unused"}, // of an earlier version
		{Name: "used", Origin: api.OriginRecipe, Source: "catalog used"},
		{Name: "bundle", Origin: api.OriginBundle, Source: "catalog bundle"},
		{Name: "same-name", Origin: api.OriginBundle, Source: "/media/same-name.tar.zst"},
		{Name: "imported", Origin: api.OriginImported, Source: "/boot/vmlinuz"},
		{Name: "withdrawn", Origin: api.OriginRecipe, Source: "catalog withdrawn"},
	} {
		m.Release = "6.1.2"
		put(t, filepath.Join(root, m.Name), m)
	}
	store.SetInUse(func(_ context.Context, name string) ([]string, error) {
		if name == "used" {
			return []string{"vm dev"}, nil
		}
		return nil, nil
	})
	names := func() string {
		all, err := store.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var s []string
		for _, k := range all {
			s = append(s, k.Name)
		}
		return strings.Join(s, " ")
	}
	would, err := store.Prune(t.Context(), api.Prune{DryRun: true})
	if err != nil || names() != "bundle imported same-name unused used withdrawn" {
		t.Errorf("a dry run left %s, %v", names(), err)
	}
	did, err := store.Prune(t.Context(), api.Prune{})
	if err != nil || names() != "imported same-name used withdrawn" {
		t.Errorf("left %s, %v", names(), err)
	}
	if diff := cmp.Diff(would, did); diff != "" {
		t.Errorf("it did something else than it said: %s", diff)
	}
	if len(did.Removed) != 2 || did.Removed[0].Kind != "kernel" || did.Bytes != did.Removed[0].Bytes+did.Removed[1].Bytes || did.Bytes == 0 {
		t.Errorf("got %+v", did)
	}
	if again, err := store.Prune(t.Context(), api.Prune{}); err != nil || again.Removed == nil || len(again.Removed) != 0 {
		t.Errorf("once more: %+v, %v", again, err)
	}
}
