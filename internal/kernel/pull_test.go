package kernel

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/depot"

	"github.com/google/go-cmp/cmp"
)

// export writes the bundle of a kernel and returns what is in it.
func export(t *testing.T) (api.Exported, manifest) {
	t.Helper()
	store, root := newStore(t)
	m := manifest{
		Name: "theirs", Release: "6.1.2-test", Version: "6.1.2-3", Arch: "amd64",
		Origin: api.OriginImported, Source: "/home/somebody/secret",
		BootModules: []string{"00-virtio.ko", "01-virtio-rng.ko"},
	}
	put(t, filepath.Join(root, "theirs"), m)
	out, err := store.Export(t.Context(), "theirs", api.ExportImage{Path: filepath.Join(t.TempDir(), "theirs.tar.zst")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out, m
}

// serve serves a file and counts how often it was asked for.
func serve(t *testing.T, path string) (url string, count *atomic.Int64) {
	t.Helper()
	count = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, ".tar.zst") {
			http.NotFound(w, r)
			return
		}
		count.Add(1)
		http.ServeFile(w, r, path)
	}))
	t.Cleanup(server.Close)
	return server.URL, count
}

func TestPullBundle(t *testing.T) {
	out, m := export(t)
	url, _ := serve(t, out.Path)
	for _, tt := range []struct {
		name, ref, source string
	}{
		{"file", out.Path, out.Path},
		{"address", url + "/x/theirs.tar.zst?token=1", url + "/x/theirs.tar.zst?token=1"},
		{"address with a password", strings.Replace(url, "http://", "http://me:pw@", 1) + "/theirs.tar.zst", url + "/theirs.tar.zst"},
	} {
		store, root := newStore(t)
		got, err := store.Pull(t.Context(), api.PullKernel{Ref: tt.ref, SHA256: out.SHA256}, nil)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got.Name != "theirs" || got.Release != m.Release || got.Version != m.Version ||
			got.Origin != api.OriginBundle || got.Source != tt.source || got.DiskBytes == 0 {
			t.Errorf("%s: got %+v", tt.name, got)
		}
		k, err := store.Find(t.Context(), "theirs")
		if err != nil || len(k.BootModules) != 2 || k.Release != m.Release {
			t.Errorf("%s: found %+v, %v", tt.name, k, err)
		}
		text, err := os.ReadFile(filepath.Join(root, "theirs", manifestFile))
		if err != nil || strings.Contains(string(text), "secret") {
			t.Errorf("%s: the manifest tells of the publisher's host, %v:\n%s", tt.name, err, text)
		}
		if _, err := store.Pull(t.Context(), api.PullKernel{Ref: tt.ref, Name: "x", SHA256: strings.Repeat("0", 64)}, nil); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%s: another sum: %v", tt.name, err)
		}
		if entries, err := os.ReadDir(root); err != nil || len(entries) != 1 {
			t.Errorf("%s: there is %v, %v", tt.name, entries, err)
		}
	}
}

func TestPullReplaces(t *testing.T) {
	out, _ := export(t)
	url, count := serve(t, out.Path)
	store, root := newStore(t)
	inUse := func(context.Context, string) ([]string, error) { return []string{"vm dev"}, nil }
	store.SetInUse(inUse)
	old := func(name string, origin api.Origin, source string) {
		put(t, filepath.Join(root, name), manifest{Name: name, Release: "5.10.1", Arch: "amd64", Origin: origin, Source: source})
	}
	ref := url + "/theirs.tar.zst"
	old("theirs", api.OriginBundle, ref)
	got, err := store.Pull(t.Context(), api.PullKernel{Ref: ref}, nil)
	if err != nil || got.Release != "6.1.2-test" || !cmp.Equal(got.UsedBy, []string{"vm dev"}) {
		t.Errorf("the same again, in use: %+v, %v", got, err)
	}

	old("mine", api.OriginImported, "/boot/vmlinuz")
	old("other", api.OriginBundle, "http://somewhere.test/theirs.tar.zst")
	count.Store(0)
	for _, req := range []api.PullKernel{
		{Ref: ref, Name: "mine"},
		{Ref: url + "/elsewhere.tar.zst"}, // it calls itself theirs
	} {
		if _, err := store.Pull(t.Context(), req, nil); !errors.Is(err, api.ErrExists) || api.AsError(err).Hint == "" {
			t.Errorf("%+v: %v", req, err)
		}
	}
	if n := count.Load(); n != 1 {
		t.Errorf("%d requests for what was refused, want one, for the name", n)
	}
	if got, err := store.Pull(t.Context(), api.PullKernel{Ref: ref, Name: "other"}, nil); err != nil || got.Release != "6.1.2-test" {
		t.Errorf("under a chosen name: %+v, %v", got, err)
	}
	if _, err := store.Pull(t.Context(), api.PullKernel{Ref: ref, Name: "../x"}, nil); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a name with a path: %v", err)
	}
}

// A bundle's file may be renamed; what is in it isn't.
func TestPullNamesAfterManifest(t *testing.T) {
	out, _ := export(t)
	renamed := filepath.Join(t.TempDir(), "k.tar.zst")
	if err := os.Rename(out.Path, renamed); err != nil {
		t.Fatal(err)
	}
	url, _ := serve(t, renamed)
	for _, ref := range []string{renamed, url + "/k.tar.zst"} {
		store, _ := newStore(t)
		if got, err := store.Pull(t.Context(), api.PullKernel{Ref: ref}, nil); err != nil || got.Name != "theirs" {
			t.Errorf("%s: got %q, %v", ref, got.Name, err)
		}
		if got, err := store.Pull(t.Context(), api.PullKernel{Ref: ref, Name: "mine"}, nil); err != nil || got.Name != "mine" {
			t.Errorf("%s with a name: got %q, %v", ref, got.Name, err)
		}
	}
}

func TestPullCatalog(t *testing.T) {
	out, _ := export(t)
	url, _ := serve(t, out.Path)
	entry := func(path, sum string, recipe bool) catalog.Kernel {
		k := recipeFor("generic", "amd64")
		if !recipe {
			k.Recipe = nil
		}
		k.Bundles = []catalog.Bundle{{Arch: "amd64", URL: url + path, SHA256: sum}}
		return k
	}
	bad := strings.Repeat("0", 64)
	for _, tt := range []struct {
		name   string
		entry  catalog.Kernel
		origin api.Origin // "": an error of code
		code   *api.Error
	}{
		{"bundle", entry("/k.tar.zst", out.SHA256, true), api.OriginBundle, nil},
		{"recipe", recipeFor("generic", "amd64"), api.OriginRecipe, nil},
		{"no bundle, but a recipe", entry("/gone", out.SHA256, true), api.OriginRecipe, nil},
		{"no bundle and no recipe", entry("/gone", out.SHA256, false), "", api.ErrNotFound},
		{"a changed bundle and a recipe", entry("/k.tar.zst", bad, true), "", api.ErrInvalid},
	} {
		store, _ := newStore(t, tt.entry)
		store.build = func(_ context.Context, m manifest, r catalog.KernelRecipe, dir string, _ depot.Report, _ *slog.Logger) error {
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
				t.Errorf("%s: the directory to build in has %v, %v", tt.name, entries, err)
			}
			m.Origin, m.Release = api.OriginRecipe, "6.1.2"
			put(t, dir, m)
			return nil
		}
		k, err := store.Ensure(t.Context(), "generic", nil)
		if tt.origin == "" {
			if !errors.Is(err, tt.code) {
				t.Errorf("%s: got %v, want %s", tt.name, err, tt.code.Code)
			}
			continue
		}
		if err != nil || k.Origin != tt.origin || k.Source != "catalog generic" || k.Name != "generic" {
			t.Errorf("%s: got %+v, %v", tt.name, k, err)
		}
		if again, err := store.Pull(t.Context(), api.PullKernel{Ref: "generic"}, nil); err != nil || again.Origin != tt.origin {
			t.Errorf("%s: pull it again: %+v, %v", tt.name, again, err)
		}
	}
	store, _ := newStore(t, recipeFor("generic", "amd64"))
	if _, err := store.Pull(t.Context(), api.PullKernel{Ref: "generic", SHA256: out.SHA256}, nil); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("with a sum: %v", err)
	}
}

func TestPullsAtOnceShareTheWork(t *testing.T) {
	store, _ := newStore(t, recipeFor("generic", "amd64"))
	var builds atomic.Int64
	started, goOn := make(chan struct{}), make(chan struct{})
	store.build = func(_ context.Context, m manifest, _ catalog.KernelRecipe, dir string, _ depot.Report, _ *slog.Logger) error {
		builds.Add(1)
		close(started)
		<-goOn
		m.Origin, m.Release = api.OriginRecipe, "6.1.2"
		put(t, dir, m)
		return nil
	}
	var wg sync.WaitGroup
	call := func(progress api.ProgressFunc) {
		wg.Go(func() {
			if _, err := store.Pull(t.Context(), api.PullKernel{Ref: "generic"}, progress); err != nil {
				t.Error(err)
			}
		})
	}
	call(nil)
	<-started
	joined := make(chan struct{})
	var once sync.Once
	call(func(api.Progress) { once.Do(func() { close(joined) }) })
	<-joined
	close(goOn)
	wg.Wait()
	if n := builds.Load(); n != 1 {
		t.Errorf("two pulls at once built %d times", n)
	}
}
