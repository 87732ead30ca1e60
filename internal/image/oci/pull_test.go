package oci

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/api"
	"banger/internal/image/oci/flatten"
	lt "banger/internal/image/oci/layertest"
	"banger/internal/transfer"
)

// testRegistry is a registry that can be made to fail.
type testRegistry struct {
	host string
	// around, if set, handles GETs of blobs instead of the registry, which it
	// may call.
	around atomic.Pointer[func(w http.ResponseWriter, r *http.Request, next http.Handler)]
	// check, if set, sees every request first and may refuse it.
	check atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]
	blobs atomic.Int64 // GETs of blobs
}

func newTestRegistry(t *testing.T) *testRegistry {
	t.Helper()
	reg := &testRegistry{}
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if check := reg.check.Load(); check != nil && !(*check)(w, r) {
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			reg.blobs.Add(1)
			if around := reg.around.Load(); around != nil {
				(*around)(w, r, inner)
				return
			}
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	reg.host = strings.TrimPrefix(server.URL, "http://")
	return reg
}

func (reg *testRegistry) push(t *testing.T, repo string, img v1.Image) string {
	t.Helper()
	ref, err := name.ParseReference(reg.host + "/" + repo)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatalf("push: %v", err)
	}
	return ref.Name()
}

// imageOf makes an image of layers, each a tar, for a platform.
func imageOf(t *testing.T, platform string, tars ...[]byte) v1.Image {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for _, data := range tars {
		var err error
		if img, err = mutate.Append(img, mutate.Addendum{Layer: layer{lt.Gzip(t, data), data}}); err != nil {
			t.Fatal(err)
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, _ = strings.Cut(platform, "/")
	file.Config = v1.Config{
		Env: []string{"PATH=/bin", "A=b c"}, WorkingDir: "/srv", User: "app:1000",
		Entrypoint: []string{"/entry"}, Cmd: []string{"serve"},
		ExposedPorts: map[string]struct{}{"80/tcp": {}, "443/tcp": {}},
	}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// layer is a v1.Layer whose bytes the test chose.
type layer struct{ compressed, plain []byte }

func (l layer) Digest() (v1.Hash, error) { return v1.NewHash(lt.Digest(l.compressed)) }
func (l layer) DiffID() (v1.Hash, error) { return v1.NewHash(lt.Digest(l.plain)) }
func (l layer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(string(l.compressed))), nil
}
func (l layer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(string(l.plain))), nil
}
func (l layer) Size() (int64, error)                { return int64(len(l.compressed)), nil }
func (l layer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }

// pullFast is Pull that doesn't wait long between attempts.
func pullFast(t *testing.T, ref string, opts Options) (Image, error) {
	t.Helper()
	if opts.Keychain == nil {
		opts.Keychain = authn.NewMultiKeychain()
	}
	p, err := newPuller(ref, opts)
	if err != nil {
		return Image{}, err
	}
	p.retry = transfer.Retry{Attempts: 4, First: time.Millisecond, Max: 5 * time.Millisecond, Stall: 2 * time.Second}
	return p.pull(context.Background())
}

// randomTar is a layer that doesn't compress.
func randomTar(t *testing.T, seed string, size int) []byte {
	t.Helper()
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		b.WriteString(lt.Digest(fmt.Appendf(nil, "%s %d", seed, i)))
	}
	return lt.Tar(t, lt.Reg(seed, b.String()))
}

func TestPull(t *testing.T) {
	reg := newTestRegistry(t)
	tars := [][]byte{lt.Tar(t, lt.Reg("a", "1")), lt.Tar(t, lt.Reg("b", "2"))}
	img := imageOf(t, "linux/amd64", tars...)
	ref := reg.push(t, "org/app:v1", img)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{ref, reg.host + "/org/app@" + digest.String(), reg.host + "/org/app:any@" + digest.String()} {
		got, err := pullFast(t, ref, Options{CacheDir: t.TempDir(), Platform: "linux/amd64"})
		if err != nil {
			t.Fatalf("pull %s: %v", ref, err)
		}
		want := Config{
			Env: []string{"PATH=/bin", "A=b c"}, WorkingDir: "/srv", User: "app:1000",
			Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}, ExposedPorts: []string{"443/tcp", "80/tcp"},
		}
		if diff := cmp.Diff(want, got.Config); diff != "" {
			t.Errorf("config (-want +got):\n%s", diff)
		}
		if got.Digest != digest.String() || got.Platform != "linux/amd64" {
			t.Errorf("digest %s, platform %s; want %s, linux/amd64", got.Digest, got.Platform, digest)
		}
		var b strings.Builder
		if _, err := flatten.Layers(context.Background(), got.Layers, tar.NewWriter(&b), flatten.Options{}); err != nil {
			t.Fatalf("flatten: %v", err)
		}
		list := lt.List(t, strings.NewReader(b.String()))
		if want := "d 755 0:0 ./\nf 644 0:0 a \"1\"\nf 644 0:0 b \"2\"\n"; list != want {
			t.Errorf("tree:\n%s\nwant:\n%s", list, want)
		}
	}
}

func TestPlatforms(t *testing.T) {
	reg := newTestRegistry(t)
	arm := imageOf(t, "linux/arm64", lt.Tar(t, lt.Reg("arm", "")))
	amd := imageOf(t, "linux/amd64", lt.Tar(t, lt.Reg("amd", "")))
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	index = mutate.AppendManifests(index,
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}},
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: imageOf(t, "unknown/unknown", lt.Tar(t)), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}})
	ref, err := name.ParseReference(reg.host + "/multi:latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	for platform, want := range map[string]v1.Image{"linux/arm64": arm, "linux/arm64/v8": arm, "linux/amd64": amd} {
		got, err := pullFast(t, reg.host+"/multi", Options{CacheDir: t.TempDir(), Platform: platform})
		if err != nil {
			t.Errorf("%s: %v", platform, err)
			continue
		}
		if digest, _ := want.Digest(); got.Digest != digest.String() {
			t.Errorf("%s: got another image", platform)
		}
	}
	_, err = pullFast(t, reg.host+"/multi", Options{CacheDir: t.TempDir(), Platform: "linux/s390x"})
	if hint := api.AsError(err).Hint; !errors.Is(err, api.ErrNotFound) || hint != "it is available for: linux/amd64, linux/arm64/v8" {
		t.Errorf("error = %v, hint %q", err, hint)
	}
	single := reg.push(t, "arm:1", arm)
	_, err = pullFast(t, single, Options{CacheDir: t.TempDir(), Platform: "linux/amd64"})
	if hint := api.AsError(err).Hint; !errors.Is(err, api.ErrNotFound) || hint != "it is available for: linux/arm64" {
		t.Errorf("single-platform image: error = %v, hint %q", err, hint)
	}
	for _, bad := range []string{"windows/amd64", "linux", "a/b/c/d/e"} {
		if _, err := pullFast(t, single, Options{Platform: bad}); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("platform %q: error = %v, want api.ErrInvalid", bad, err)
		}
	}
}

func TestUsersErrors(t *testing.T) {
	reg := newTestRegistry(t)
	opts := Options{CacheDir: t.TempDir()}
	if _, err := pullFast(t, "No Such!", opts); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("bad name: %v", err)
	}
	if _, err := pullFast(t, reg.host+"/none:1", opts); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("missing image: %v", err)
	}
	if _, err := pullFast(t, "127.0.0.1:1/app", opts); !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), "can't be reached") {
		t.Errorf("no registry: %v", err)
	}
	chart, err := mutate.Append(mutate.ConfigMediaType(empty.Image, "application/vnd.cncf.helm.config.v1+json"),
		mutate.Addendum{Layer: static.NewLayer([]byte("x"), types.OCILayer)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pullFast(t, reg.push(t, "chart:1", chart), opts); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "no container image") {
		t.Errorf("a chart: %v", err)
	}
}

func TestLogin(t *testing.T) {
	reg := newTestRegistry(t)
	ref := reg.push(t, "private:1", imageOf(t, "linux/amd64", lt.Tar(t, lt.Reg("a", ""))))
	check := func(w http.ResponseWriter, r *http.Request) bool {
		if user, pass, _ := r.BasicAuth(); user == "me" && pass == "secret" {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		return false
	}
	reg.check.Store(&check)
	_, err := pullFast(t, ref, Options{CacheDir: t.TempDir(), Platform: "linux/amd64"})
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(api.AsError(err).Hint, "docker login "+reg.host) {
		t.Errorf("without a login: error = %v, hint %q", err, api.AsError(err).Hint)
	}

	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(home, "run"))
	t.Setenv("XDG_CONFIG_HOME", "")
	login := fmt.Sprintf(`{"auths":{%q:{"auth":"bWU6c2VjcmV0"}}}`, reg.host) // me:secret
	// With a docker configuration that knows other registries only.
	other := `{"auths":{"example.com":{"auth":"eDp5"}}}`
	for _, c := range []struct{ name, docker, file, content string }{
		{"docker", login, "", ""},
		{"podman", other, "run/containers/auth.json", login},
		{"podman, lasting", other, ".config/containers/auth.json", login},
		{"podman, for one repository", other, "run/containers/auth.json", strings.Replace(login, reg.host, reg.host+"/private", 1)},
		{"REGISTRY_AUTH_FILE", other, "elsewhere.json", login},
	} {
		t.Run(c.name, func(t *testing.T) {
			write := func(file, content string) {
				file = filepath.Join(home, file)
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.Remove(file) })
			}
			write(".docker/config.json", c.docker)
			if c.file != "" {
				write(c.file, c.content)
			}
			if c.name == "REGISTRY_AUTH_FILE" {
				t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(home, c.file))
			}
			_, err := pullFast(t, ref, Options{CacheDir: t.TempDir(), Platform: "linux/amd64", Keychain: Keychain()})
			if err != nil {
				t.Errorf("pull: %v", err)
			}
		})
	}
}

func TestPullsShareTheWork(t *testing.T) {
	reg := newTestRegistry(t)
	ref := reg.push(t, "app:1", imageOf(t, "linux/amd64", randomTar(t, "a", 1<<20), randomTar(t, "b", 1<<20)))
	slow := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		time.Sleep(50 * time.Millisecond) // so that the others come meanwhile
		next.ServeHTTP(w, r)
	}
	reg.around.Store(&slow)
	cache := t.TempDir()
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := pullFast(t, ref, Options{CacheDir: cache, Platform: "linux/amd64"}); err != nil {
				t.Errorf("pull: %v", err)
			}
		})
	}
	wg.Wait()
	if got := reg.blobs.Load(); got != 3 {
		t.Errorf("%d blobs were fetched, want 3: a configuration and two layers", got)
	}
	assertComplete(t, cache, 3)
}

// assertComplete checks that a cache has so many blobs and nothing else.
func assertComplete(t *testing.T, cache string, want int) {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(cache, "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(cache, "sha256", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if lt.Digest(data) != "sha256:"+f.Name() {
			t.Errorf("%s has another digest", f.Name())
		}
	}
	if len(files) != want {
		t.Errorf("%d files in the cache, want %d", len(files), want)
	}
}

func TestProgressEvents(t *testing.T) {
	reg := newTestRegistry(t)
	ref := reg.push(t, "app:1", imageOf(t, "linux/amd64", randomTar(t, "a", 100_000), randomTar(t, "b", 200_000)))
	opts := Options{CacheDir: t.TempDir(), Platform: "linux/amd64"}
	for _, what := range []string{"fresh", "cached"} {
		var mu sync.Mutex
		last := make(map[string]api.Progress)
		opts.Progress = func(p api.Progress) {
			mu.Lock()
			defer mu.Unlock()
			last[p.Phase] = p
		}
		img, err := pullFast(t, ref, opts)
		if err != nil {
			t.Fatal(err)
		}
		if !last["image-manifest"].Finished || len(last) != 3 {
			t.Errorf("%s: phases %v", what, last)
		}
		for _, l := range img.Layers {
			p := last["layer-"+l.Digest[len("sha256:"):][:12]]
			if !p.Finished || p.Done != l.Size || p.Total != l.Size || p.Unit != "bytes" {
				t.Errorf("%s: last event of a layer: %+v", what, p)
			}
		}
	}
}
