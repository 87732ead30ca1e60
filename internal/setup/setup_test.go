package setup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger/internal/api"
	"banger/internal/download"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// member is a file of an archive.
type member struct {
	name string
	kind byte
	text string
}

// releaseOf packs members and returns the archive and the release that it is.
func releaseOf(t *testing.T, version string, members ...member) ([]byte, Release) {
	t.Helper()
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	w := tar.NewWriter(zipped)
	for _, m := range members {
		header := &tar.Header{Name: m.name, Typeflag: m.kind, Size: int64(len(m.text)), Mode: 0o755}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(packed.Bytes())
	return packed.Bytes(), Release{Version: version, SHA256: map[string]string{runtime.GOARCH: hex.EncodeToString(sum[:])}}
}

// good is an archive like the project's.
func good(t *testing.T, version string) ([]byte, Release) {
	a := archive{version: version, machine: machines[runtime.GOARCH]}
	folder := "release-" + version + "-" + a.machine + "/"
	return releaseOf(t, version,
		member{folder, tar.TypeDir, ""},
		member{folder + "LICENSE", tar.TypeReg, "license"},
		member{a.member(firecracker) + ".debug", tar.TypeReg, "symbols"},
		member{a.member(jailer), tar.TypeReg, "jailer " + version},
		member{a.member(firecracker), tar.TypeReg, strings.Repeat("firecracker "+version, 10_000)},
	)
}

// mirror serves an archive where the release's is expected.
func mirror(t *testing.T, r Release, data []byte, wrap func(http.Handler) http.Handler) Options {
	t.Helper()
	a, err := r.archive()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/base/"+r.Version+"/"+a.name(), func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("ETag", `"x"`)
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
	})
	var handler http.Handler = mux
	if wrap != nil {
		handler = wrap(mux)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	root := t.TempDir()
	return Options{
		Release:  r,
		Mirror:   server.URL + "/base/",
		Dir:      filepath.Join(root, "share", "firecracker"),
		CacheDir: filepath.Join(root, "cache"),
		Client:   server.Client(),
		Retry:    &download.Retry{Attempts: 3, First: time.Millisecond, Max: time.Millisecond, Stall: 30 * time.Second},
	}
}

// names lists a directory that may be missing.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func checkInstalled(t *testing.T, o Options, got Installation) {
	t.Helper()
	version := o.Release.Version
	want := Installation{version, filepath.Join(o.Dir, version, firecracker), filepath.Join(o.Dir, version, jailer)}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for path, text := range map[string]string{want.Firecracker: strings.Repeat("firecracker "+version, 10_000), want.Jailer: "jailer " + version} {
		data, err := os.ReadFile(path)
		if err != nil || string(data) != text {
			t.Errorf("%s has %d bytes, %v", path, len(data), err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if found, ok := Installed(o.Dir); !ok || found != want {
		t.Errorf("Installed: %+v, %v", found, ok)
	}
	if left := names(t, o.CacheDir); left != "" {
		t.Errorf("left in the cache: %s", left)
	}
}

func TestInstall(t *testing.T) {
	data, release := good(t, "v1.2.3")
	var requests atomic.Int32
	o := mirror(t, release, data, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			h.ServeHTTP(w, r)
		})
	})
	if _, ok := Installed(o.Dir); ok {
		t.Error("installed before the first time")
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			got, err := Install(t.Context(), o)
			if err != nil {
				t.Error(err)
				return
			}
			checkInstalled(t, o, got)
		})
	}
	wg.Wait()
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	// What an installation that was killed left goes with the next one.
	if err := os.MkdirAll(filepath.Join(o.Dir, ".tmp-v1.2.3-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	o.Force = true
	got, err := Install(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	checkInstalled(t, o, got)
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests after a forced one", n)
	}
	if all := names(t, o.Dir); all != "v1.2.3" {
		t.Errorf("the directory has %s", all)
	}
}

// A slow connection that breaks again and again is gone on with.
func TestSlow(t *testing.T) {
	data, release := good(t, "v1.2.3")
	var resumed atomic.Int32
	o := mirror(t, release, data, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				resumed.Add(1)
			}
			h.ServeHTTP(&dripping{ResponseWriter: w, left: len(data)/3 + 1}, r)
		})
	})
	got, err := Install(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	checkInstalled(t, o, got)
	if n := resumed.Load(); n < 2 {
		t.Errorf("gone on %d times", n)
	}
}

// dripping sends small pieces, and breaks the connection after so many bytes.
type dripping struct {
	http.ResponseWriter
	left int
}

func (w *dripping) Write(p []byte) (int, error) {
	for sent := 0; sent < len(p); {
		n := min(100, len(p)-sent, w.left)
		if n == 0 {
			panic(http.ErrAbortHandler)
		}
		if _, err := w.ResponseWriter.Write(p[sent : sent+n]); err != nil {
			return sent, err
		}
		w.ResponseWriter.(http.Flusher).Flush()
		sent, w.left = sent+n, w.left-n
	}
	return len(p), nil
}

func TestCantBeHad(t *testing.T) {
	data, release := good(t, "v1.2.3")
	tampered := bytes.Clone(data)
	tampered[len(data)/2] ^= 1
	empty, without := releaseOf(t, "v1.2.3", member{"README", tar.TypeReg, "nothing here"})
	a, err := release.archive()
	if err != nil {
		t.Fatal(err)
	}
	linked, withLink := releaseOf(t, "v1.2.3", member{a.member(firecracker), tar.TypeSymlink, ""})
	noArchive := []byte("not an archive")
	sum := sha256.Sum256(noArchive)
	for _, tt := range []struct {
		name    string
		release Release
		data    []byte
		text    string
	}{
		{"truncated", release, data[:len(data)/2], "its sha256 is"},
		{"tampered", release, tampered, "its sha256 is"},
		{"nothing there", Release{"v9.9.9", release.SHA256}, nil, "nothing at"},
		{"without the programs", without, empty, "is not in it"},
		{"a link", withLink, linked, "is not a program"},
		{"no archive", Release{"v1.2.3", map[string]string{runtime.GOARCH: hex.EncodeToString(sum[:])}}, noArchive, "can't be used"},
		{"another machine", Release{"v1.2.3", nil}, nil, "for " + runtime.GOARCH},
	} {
		o := mirror(t, release, tt.data, nil)
		o.Release = tt.release
		_, err := Install(t.Context(), o)
		if !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), tt.text) || !strings.Contains(err.Error(), "so VMs run on QEMU") {
			t.Errorf("%s: got %v", tt.name, err)
			continue
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than a line: %v", tt.name, err)
		}
		if all := names(t, o.Dir); all != "" {
			t.Errorf("%s: left %s", tt.name, all)
		}
		if left := names(t, o.CacheDir); tt.name != "nothing there" && left != "" {
			t.Errorf("%s: left %s in the cache", tt.name, left)
		}
	}
	o := mirror(t, release, data, nil)
	o.Mirror = "file:///tmp"
	if _, err := Install(t.Context(), o); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a bad mirror: got %v", err)
	}
}

// An installed release survives a failed attempt to install it anew.
func TestFailedForce(t *testing.T) {
	data, release := good(t, "v1.2.3")
	o := mirror(t, release, data, nil)
	there, err := Install(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	o.Force = true
	o.Mirror += "nowhere"
	if _, err := Install(t.Context(), o); !errors.Is(err, api.ErrHost) {
		t.Errorf("got %v", err)
	}
	checkInstalled(t, o, there)
}

func TestCancelled(t *testing.T) {
	data, release := good(t, "v1.2.3")
	ctx, cancel := context.WithCancel(t.Context())
	o := mirror(t, release, data, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
	})
	if _, err := Install(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if all := names(t, o.Dir); all != "" {
		t.Errorf("left %s", all)
	}
}
