package bundle

import (
	"archive/tar"
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/download"
)

func TestManifest(t *testing.T) {
	path, _ := sample(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := Unpack(t.Context(), path, dir, Options{}); err != nil {
		t.Fatal(err)
	}
	want := tree(t, dir)[ManifestName]
	if got, err := Manifest(t.Context(), path, Options{}); err != nil || string(got) != want {
		t.Errorf("of a file: %q, %v", got, err)
	}
	var broken atomic.Bool // the first connection, after a few bytes
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken.CompareAndSwap(false, true) {
			w = &breaking{ResponseWriter: w, left: 10}
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	defer server.Close()
	o := Options{
		CacheDir: t.TempDir(), Client: server.Client(),
		Retry: &download.Retry{Attempts: 2, First: time.Millisecond, Max: time.Millisecond, Stall: 30 * time.Second},
	}
	if got, err := Manifest(t.Context(), server.URL+"/x.tar.zst", o); err != nil || string(got) != want || !broken.Load() {
		t.Errorf("of a URL: %q, %v", got, err)
	}
	checkEmpty(t, o.CacheDir)
}

// Only a small, regular manifest.json counts, and only as the first file.
func TestManifestHostile(t *testing.T) {
	link := &tar.Header{Name: ManifestName, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}
	for name, data := range map[string][]byte{
		"another file first": archive(t, regular("rootfs.ext4", 3), regular(ManifestName, 3)),
		"a link":             archive(t, link),
		"too long":           archive(t, regular(ManifestName, maxManifest+1)),
		"nothing":            compress(t, nil),
		"no zstd":            noise(1000),
		"no tar":             compress(t, noise(5000)),
		"cut short":          archive(t, regular(ManifestName, 900))[:20],
	} {
		path := t.TempDir() + "/x.tar.zst"
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Manifest(t.Context(), path, Options{}); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %q, %v", name, bytes.TrimSpace(got), err)
		}
	}
}
