package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"banger/internal/api"
	"banger/internal/catalog"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// tarOf is a tar of files.
func tarOf(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// container is a container image of one file.
func container(t *testing.T, content string) v1.Image {
	t.Helper()
	data := tarOf(t, map[string]string{"hello": content})
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data)), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", arch()
	file.Config = v1.Config{
		Env: []string{"PATH=/app", "MODE=image"}, WorkingDir: "/srv", User: "1000", Entrypoint: []string{"/start"},
		Cmd: []string{"serve"}, Volumes: map[string]struct{}{"/data/": {}, "/root/x": {}},
	}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// serveRegistry serves a container image as HOST/team/app:v1, and counts the
// requests for its layers.
func serveRegistry(t *testing.T, img v1.Image) (ref string, blobs *atomic.Int32) {
	t.Helper()
	blobs = new(atomic.Int32)
	serve := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			blobs.Add(1)
		}
		serve.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	ref = strings.TrimPrefix(server.URL, "http://") + "/team/app:v1"
	tag, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	return ref, blobs
}

func TestPullFromRegistry(t *testing.T) {
	s := newShop(t)
	ref, _ := serveRegistry(t, container(t, "from a layer"))
	img, err := s.Pull(t.Context(), api.PullImage{Ref: ref}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if img.Name != "app-v1" || img.Origin != api.OriginOCI || img.Kernel != DefaultKernel || !strings.HasPrefix(img.Digest, "sha256:") {
		t.Errorf("got %+v", img)
	}
	if c := img.Config; c == nil || c.User != "1000" || c.WorkingDir != "/srv" || !slices.Equal(c.Entrypoint, []string{"/start"}) || len(c.Env) != 2 {
		t.Errorf("config %+v", img.Config)
	}
	if !slices.Contains(img.RealDirs, "/data") || slices.Contains(img.RealDirs, "/root/x") {
		t.Errorf("real directories: %v", img.RealDirs)
	}
	if got := catFile(t, img.Rootfs, "/hello"); got != "from a layer" {
		t.Errorf("content %q", got)
	}
	// A VM may name it by what it was pulled by.
	used, release, err := s.Use(t.Context(), ref, nil)
	if err != nil || used.Name != "app-v1" {
		t.Fatalf("Use: %+v, %v", used, err)
	}
	release()
	s.wantNoLitter(t, "app-v1")

	pruned, err := s.Prune(t.Context(), api.Prune{})
	if err != nil || len(pruned.Removed) != 2 { // the image and its layers
		t.Errorf("pruned %+v, %v", pruned, err)
	}
	s.wantNoLitter(t)
}

// A VM of an image that isn't here pulls it; calls that overlap do it once.
func TestTwoPullsAtOnce(t *testing.T) {
	s := newShop(t)
	ref, blobs := serveRegistry(t, container(t, "once"))
	var group sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		group.Go(func() {
			_, release, err := s.Use(t.Context(), ref, nil)
			if err == nil {
				release()
			}
			errs[i] = err
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if n := blobs.Load(); n != 2 { // the layer and the configuration
		t.Errorf("%d blobs were fetched, want 2", n)
	}
}

func TestPullRegistryErrors(t *testing.T) {
	s := newShop(t)
	ref, _ := serveRegistry(t, container(t, ""))
	absent := strings.TrimSuffix(ref, "v1") + "v2"
	_, err := s.Pull(t.Context(), api.PullImage{Ref: absent}, nil)
	wantCode(t, err, api.CodeNotFound)
	_, err = s.Pull(t.Context(), api.PullImage{Ref: ref, Kernel: "unknown"}, nil)
	wantCode(t, err, api.CodeNotFound, "unknown")
	_, err = s.Pull(t.Context(), api.PullImage{Ref: ref, Platform: "linux/riscv64"}, nil)
	if err == nil {
		t.Error("an image for another machine was pulled")
	}
	_, err = s.Pull(t.Context(), api.PullImage{Ref: ref, SHA256: "00"}, nil)
	wantCode(t, err, api.CodeInvalid)
	_, err = s.Pull(t.Context(), api.PullImage{Ref: ref, Name: "a/b"}, nil)
	wantCode(t, err, api.CodeInvalid)
	s.wantNoLitter(t)
}

// What a user has must not be replaced by something else of the same name.
func TestPullOverOther(t *testing.T) {
	s := newShop(t)
	ref, _ := serveRegistry(t, container(t, ""))
	s.register(t, "app-v1")
	_, err := s.Pull(t.Context(), api.PullImage{Ref: ref}, nil)
	wantCode(t, err, api.CodeExists, "--name")
	if _, err := s.Pull(t.Context(), api.PullImage{Ref: ref, Name: "other"}, nil); err != nil {
		t.Fatal(err)
	}
	s.guests.images["web"] = "other"
	_, err = s.Pull(t.Context(), api.PullImage{Ref: ref, Name: "other"}, nil)
	wantCode(t, err, api.CodeConflict, "web")
	s.wantNoLitter(t, "app-v1", "other")
}

// export writes the bundle of a registered image.
func (s *shop) export(t *testing.T, name string) api.Exported {
	t.Helper()
	written, err := s.Export(t.Context(), name, api.ExportImage{Path: filepath.Join(t.TempDir(), name+".tar.zst")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return written
}

func TestExportAndPull(t *testing.T) {
	from := newShop(t)
	path := from.register(t, "mine")
	first, second := from.export(t, "mine"), from.export(t, "mine")
	if first.SHA256 != second.SHA256 {
		t.Error("two exports of one image differ")
	}
	from.wantNoLitter(t, "mine")

	s := newShop(t)
	img, err := s.Pull(t.Context(), api.PullImage{Ref: first.Path, SHA256: first.SHA256}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if img.Name != "mine" || img.Origin != api.OriginBundle || img.Kernel != "k" || img.Digest != "sha256:"+first.SHA256 {
		t.Errorf("got %+v", img)
	}
	if !slices.Contains(s.kernels, "k") {
		t.Errorf("its kernel wasn't pulled, only %v", s.kernels)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(img.Rootfs); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file system came back changed (%v)", err)
	}
	// Nothing of this host is in a bundle: whoever has the same image makes the
	// same one.
	if again := s.export(t, "mine"); again.SHA256 != first.SHA256 {
		t.Error("the image that came from the bundle gives another bundle")
	}
	s.wantNoLitter(t, "mine")
}

// A bundle's file may be renamed; what is in it isn't. And an image whose kernel
// can't be had is of no use: nothing of it stays.
func TestImportUnderManifestsName(t *testing.T) {
	from := newShop(t)
	from.register(t, "mine")
	renamed := filepath.Join(t.TempDir(), "img.tar.zst")
	if err := os.Rename(from.export(t, "mine").Path, renamed); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, renamed) }))
	defer server.Close()
	for _, ref := range []string{renamed, server.URL + "/img.tar.zst"} {
		s := newShop(t)
		if _, err := s.Pull(t.Context(), api.PullImage{Ref: ref, Kernel: "unknown"}, nil); !errors.Is(err, api.ErrNotFound) || api.AsError(err).Hint == "" {
			t.Errorf("%s without its kernel: %v", ref, err)
		}
		s.wantNoLitter(t)
		if img, err := s.Pull(t.Context(), api.PullImage{Ref: ref}, nil); err != nil || img.Name != "mine" {
			t.Errorf("%s: got %q, %v", ref, img.Name, err)
		}
		if img, err := s.Pull(t.Context(), api.PullImage{Ref: ref, Name: "yours"}, nil); err != nil || img.Name != "yours" {
			t.Errorf("%s with a name: got %q, %v", ref, img.Name, err)
		}
		s.wantNoLitter(t, "mine", "yours")
	}
}

func TestCatalogBundle(t *testing.T) {
	from := newShop(t)
	from.register(t, "offered")
	written := from.export(t, "offered")

	var cut atomic.Bool
	cut.Store(true)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cut.Swap(false) { // the first answer breaks off half-way
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write([]byte("x"))
			return
		}
		http.ServeFile(w, r, written.Path)
	}))
	defer server.Close()

	s := newShop(t)
	s.offer.Images[0].Bundles = []catalog.Bundle{{Arch: arch(), URL: server.URL + "/offered.tar.zst", SHA256: written.SHA256, Bytes: written.Bytes}}
	entries, err := s.Catalog(t.Context())
	if err != nil || len(entries) != 1 || entries[0].Here || entries[0].Origin != api.OriginBundle || !entries[0].Default {
		t.Fatalf("catalog %+v, %v", entries, err)
	}
	cut.Store(false)
	img, err := s.Pull(t.Context(), api.PullImage{Ref: "offered"}, nil)
	if err != nil || img.Origin != api.OriginBundle {
		t.Fatalf("got %+v, %v", img, err)
	}
	if entries, _ = s.Catalog(t.Context()); !entries[0].Here {
		t.Error("the catalog doesn't know that it is here")
	}
	// A pull of one that is there gets it anew.
	before := img.Created
	if img, err = s.Pull(t.Context(), api.PullImage{Ref: "offered"}, nil); err != nil || img.Created.Before(before) {
		t.Errorf("pull again: %+v, %v", img, err)
	}
	s.wantNoLitter(t, "offered")

	// One that isn't what was promised never becomes visible.
	tampered := newShop(t)
	tampered.offer.Images[0].Bundles = []catalog.Bundle{{Arch: arch(), URL: server.URL + "/offered.tar.zst", SHA256: strings.Repeat("0", 64)}}
	if _, err := tampered.Pull(t.Context(), api.PullImage{Ref: "offered"}, nil); err == nil {
		t.Error("a bundle with another checksum was taken")
	}
	tampered.wantNoLitter(t)
}

func TestPullBadBundle(t *testing.T) {
	s := newShop(t)
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.tar.zst")
	if err := os.WriteFile(garbage, []byte("no bundle"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{garbage, filepath.Join(dir, "absent.tar.zst"), dir} {
		if _, err := s.Pull(t.Context(), api.PullImage{Ref: ref, Name: "x"}, nil); err == nil {
			t.Errorf("%s was taken", ref)
		}
	}
	s.wantNoLitter(t)
}

func TestCommit(t *testing.T) {
	s := newShop(t)
	s.register(t, "base")
	s.guests.images["web"] = "base"
	content := tarOf(t, map[string]string{"hello": "from the VM"})
	s.guests.archive = func(w io.Writer) error { _, err := io.WriteString(w, content); return err }
	img, err := s.Commit(t.Context(), api.CommitImage{VM: "web", Name: "saved"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if img.Origin != api.OriginCommit || img.Kernel != "k" || len(img.RealDirs) == 0 {
		t.Errorf("got %+v", img)
	}
	if got := catFile(t, img.Rootfs, "/hello"); got != "from the VM" {
		t.Errorf("content %q", got)
	}
	_, err = s.Commit(t.Context(), api.CommitImage{VM: "web", Name: "saved"}, nil)
	wantCode(t, err, api.CodeExists)
	_, err = s.Commit(t.Context(), api.CommitImage{VM: "nobody", Name: "new"}, nil)
	wantCode(t, err, api.CodeNotFound)
	// What was committed is never pruned.
	s.guests.images = nil
	if pruned, err := s.Prune(t.Context(), api.Prune{}); err != nil || len(pruned.Removed) != 0 {
		t.Errorf("pruned %+v, %v", pruned, err)
	}
	s.wantNoLitter(t, "base", "saved")
}

// A VM that goes in the middle of a commit leaves nothing behind.
func TestCommitBreaksOff(t *testing.T) {
	s := newShop(t)
	s.register(t, "base")
	s.guests.images["web"] = "base"
	content := tarOf(t, map[string]string{"hello": strings.Repeat("x", 1<<16)})
	gone := errors.New("the VM is gone")
	for _, cut := range []int{0, 512, 1 << 15, len(content) - 600} {
		s.guests.archive = func(w io.Writer) error {
			if _, err := io.WriteString(w, content[:cut]); err != nil {
				return err
			}
			return gone
		}
		if _, err := s.Commit(t.Context(), api.CommitImage{VM: "web", Name: "saved"}, nil); !errors.Is(err, gone) {
			t.Errorf("cut at %d: got %v", cut, err)
		}
	}
	s.wantNoLitter(t, "base")
}

func TestBuildDockerfile(t *testing.T) {
	s := newShop(t)
	dir := filepath.Join(t.TempDir(), "My-App")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "Dockerfile")
	if err := os.WriteFile(file, []byte("FROM scratch\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	built := container(t, "from Docker")
	s.guests.archive = func(w io.Writer) error {
		tag, err := name.NewTag("banger-build:latest")
		if err != nil {
			return err
		}
		return tarball.Write(tag, built, w)
	}
	img, err := s.Build(t.Context(), api.BuildImage{File: file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if img.Name != "my-app" || img.Origin != api.OriginDockerfile || img.Config.User != "1000" {
		t.Errorf("got %+v", img)
	}
	if got := catFile(t, img.Rootfs, "/hello"); got != "from Docker" {
		t.Errorf("content %q", got)
	}
	// Building again replaces it.
	built = container(t, "again")
	if img, err = s.Build(t.Context(), api.BuildImage{File: file}, nil); err != nil || catFile(t, img.Rootfs, "/hello") != "again" {
		t.Errorf("build again: %v", err)
	}
	s.guests.archive = func(io.Writer) error { return api.Errorf(api.CodeGuest, "docker build failed") }
	_, err = s.Build(t.Context(), api.BuildImage{File: file}, nil)
	wantCode(t, err, api.CodeGuest, "docker build failed")
	if _, err := s.Get(t.Context(), "my-app"); err != nil {
		t.Errorf("a failed build took the old image away: %v", err)
	}
	s.wantNoLitter(t, "my-app")
}

func TestBuildRefuses(t *testing.T) {
	s := newShop(t)
	dir := t.TempDir()
	recipe := filepath.Join(dir, "mine.toml")
	if err := os.WriteFile(recipe, []byte("nonsense = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, req := range []api.BuildImage{
		{File: "Dockerfile"},
		{File: filepath.Join(dir, "absent")},
		{File: dir},
		{File: recipe},
		{File: recipe, Target: "x"},
	} {
		_, err := s.Build(t.Context(), req, nil)
		wantCode(t, err, api.CodeInvalid)
	}
	s.wantNoLitter(t)
}

// A cancelled call leaves nothing and can be made again.
func TestPullCancelled(t *testing.T) {
	s := newShop(t)
	ref, _ := serveRegistry(t, container(t, ""))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Pull(ctx, api.PullImage{Ref: ref}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.wantNoLitter(t)
	if _, err := s.Pull(t.Context(), api.PullImage{Ref: ref}, nil); err != nil {
		t.Error(err)
	}
}

// TestBundleTitle: what is in a file isn't said to be pulled.
func TestBundleTitle(t *testing.T) {
	from := newShop(t)
	from.register(t, "app")
	written := from.export(t, "app")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, written.Path) }))
	defer server.Close()
	for ref, want := range map[string]string{written.Path: "unpacking image app", server.URL + "/app.tar.zst": "pulling image app"} {
		s := newShop(t)
		var mu sync.Mutex
		titles := make(map[string]bool)
		_, err := s.Pull(t.Context(), api.PullImage{Ref: ref}, func(p api.Progress) {
			mu.Lock()
			defer mu.Unlock()
			titles[p.Title] = true
		})
		if err != nil || !titles[want] {
			t.Errorf("%s: %v; titles %v, want %q", ref, err, titles, want)
		}
	}
}
