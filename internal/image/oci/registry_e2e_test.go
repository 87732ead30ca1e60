//go:build e2e

package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/bcrypt"

	"banger/internal/api"
	"banger/internal/image/oci/flatten"
	lt "banger/internal/image/oci/layertest"
	"banger/internal/transfer"
)

// startRegistry runs the reference registry of test/registry on loopback,
// with a login if user isn't empty, and returns its host and port.
func startRegistry(t *testing.T, user, password string) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "registry")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "..", "..", "test", "registry")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the registry: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q, secret: test}\n",
		filepath.Join(dir, "data"), host)
	if user != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		passwords := filepath.Join(dir, "htpasswd")
		if err := os.WriteFile(passwords, fmt.Appendf(nil, "%s:%s\n", user, hash), 0o600); err != nil {
			t.Fatal(err)
		}
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s}}\n", passwords)
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", file)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("the registry's log:\n%s", log.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); ; {
		resp, err := http.Get("http://" + host + "/v2/")
		if err == nil {
			resp.Body.Close()
			return host
		}
		select {
		case <-ended:
			t.Fatal("the registry ended")
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("the registry doesn't answer: %v", err)
		}
	}
}

func TestReferenceRegistry(t *testing.T) {
	host := startRegistry(t, "", "")
	testAgainst(t, host, authn.Anonymous, authn.NewMultiKeychain())
}

func TestReferenceRegistryWithLogin(t *testing.T) {
	host := startRegistry(t, "me", "secret")
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", home)
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("XDG_RUNTIME_DIR", home)
	login := fmt.Sprintf(`{"auths":{%q:{"auth":"bWU6c2VjcmV0"}}}`, host)
	if err := os.MkdirAll(filepath.Join(home, "containers"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "containers", "auth.json"), []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}
	testAgainst(t, host, &authn.Basic{Username: "me", Password: "secret"}, Keychain())

	for what, auth := range map[string]authn.Keychain{
		"no login":       authn.NewMultiKeychain(),
		"wrong password": keychainOf{&authn.Basic{Username: "me", Password: "wrong"}},
	} {
		_, err := Pull(context.Background(), host+"/app:1", Options{CacheDir: t.TempDir(), Keychain: auth, Platform: "linux/amd64"})
		if !errors.Is(err, api.ErrInvalid) || !strings.Contains(api.AsError(err).Hint, "docker login") {
			t.Errorf("%s: error = %v, hint %q", what, err, api.AsError(err).Hint)
		}
	}
}

type keychainOf struct{ auth authn.Authenticator }

func (k keychainOf) Resolve(authn.Resource) (authn.Authenticator, error) { return k.auth, nil }

// testAgainst pushes images and pulls them in every way.
func testAgainst(t *testing.T, host string, pusher authn.Authenticator, keychain authn.Keychain) {
	t.Helper()
	amd := imageOf(t, "linux/amd64", busyboxLike(t), lt.Tar(t, lt.Reg("etc/arch", "amd64"), lt.Whiteout("etc/gone")))
	arm := imageOf(t, "linux/arm64", busyboxLike(t), lt.Tar(t, lt.Reg("etc/arch", "arm64"), lt.Whiteout("etc/gone")))
	push := func(tag string, write func(name.Reference) error) string {
		ref, err := name.ParseReference(host + "/" + tag)
		if err != nil {
			t.Fatal(err)
		}
		if err := write(ref); err != nil {
			t.Fatalf("push %s: %v", tag, err)
		}
		return ref.Name()
	}
	single := push("app:1", func(ref name.Reference) error { return remote.Write(ref, amd, remote.WithAuth(pusher)) })
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	multi := push("multi:1", func(ref name.Reference) error { return remote.WriteIndex(ref, index, remote.WithAuth(pusher)) })
	digest, err := amd.Digest()
	if err != nil {
		t.Fatal(err)
	}
	indexDigest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ ref, platform, arch string }{
		{single, "linux/amd64", "amd64"},
		{host + "/app@" + digest.String(), "linux/amd64", "amd64"},
		{multi, "linux/amd64", "amd64"},
		{multi, "linux/arm64", "arm64"},
		{host + "/multi@" + indexDigest.String(), "linux/arm64", "arm64"},
	} {
		cache := t.TempDir()
		img, err := Pull(context.Background(), c.ref, Options{CacheDir: cache, Platform: c.platform, Keychain: keychain})
		if err != nil {
			t.Errorf("pull %s for %s: %v", c.ref, c.platform, err)
			continue
		}
		var b bytes.Buffer
		if _, err := flatten.Layers(context.Background(), img.Layers, tar.NewWriter(&b), flatten.Options{}); err != nil {
			t.Fatal(err)
		}
		list := lt.List(t, &b)
		if !strings.Contains(list, fmt.Sprintf("etc/arch %q", c.arch)) || strings.Contains(list, "etc/gone") {
			t.Errorf("%s for %s has the wrong tree:\n%s", c.ref, c.platform, list)
		}
		assertComplete(t, cache, 3)
		resumeFrom(t, c.ref, c.platform, keychain, img, cache)
	}
	_, err = Pull(context.Background(), host+"/app:none", Options{CacheDir: t.TempDir(), Keychain: keychain})
	if !errors.Is(err, api.ErrNotFound) {
		t.Errorf("missing tag: %v", err)
	}
}

// resumeFrom leaves half of a layer and pulls again.
func resumeFrom(t *testing.T, ref, platform string, keychain authn.Keychain, img Image, cache string) {
	t.Helper()
	if err := img.Close(); err != nil {
		t.Fatal(err)
	}
	layer := img.Layers[0]
	if err := os.Truncate(layer.Path, layer.Size/2); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(layer.Path, layer.Path+transfer.PartialSuffix); err != nil {
		t.Fatal(err)
	}
	counter := &countingTransport{}
	if _, err := Pull(context.Background(), ref, Options{CacheDir: cache, Platform: platform, Keychain: keychain, Transport: counter}); err != nil {
		t.Errorf("pull again: %v", err)
	}
	if want := layer.Size - layer.Size/2; counter.blobBytes != want {
		t.Errorf("%d bytes were fetched again, want %d", counter.blobBytes, want)
	}
	assertComplete(t, cache, 3)
}

// countingTransport counts the bytes of blobs.
type countingTransport struct{ blobBytes int64 }

func (c *countingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && strings.Contains(r.URL.Path, "/blobs/") && resp.StatusCode < 300 {
		resp.Body = &countingBody{resp.Body, &c.blobBytes}
	}
	return resp, err
}

type countingBody struct {
	io.ReadCloser
	n *int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	*b.n += int64(n)
	return n, err
}

// busyboxLike is the base layer of a small distribution.
func busyboxLike(t *testing.T) []byte {
	t.Helper()
	entries := []any{lt.Dir("bin", 0o755), lt.Dir("etc", 0o755), lt.Dir("tmp", 0o1777),
		lt.Reg("bin/busybox", strings.Repeat("binary", 50_000)).Owned(0, 0, 0o755),
		lt.Reg("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), lt.Reg("etc/gone", "")}
	for _, applet := range []string{"sh", "ls", "cat"} {
		entries = append(entries, lt.Link("bin/"+applet, "bin/busybox"))
	}
	return lt.Tar(t, entries...)
}
