package oci

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/api"
	lt "banger/internal/image/oci/layertest"
	"banger/internal/room"
	"banger/internal/transfer"
)

// oneLayer pushes an image with one big layer and returns that.
func oneLayer(t *testing.T, reg *testRegistry) (ref string, desc v1.Descriptor, blob []byte) {
	t.Helper()
	img := imageOf(t, "linux/amd64", randomTar(t, "big", 4<<20))
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	if blob, err = io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	return reg.push(t, "big:1", img), m.Layers[0], blob
}

// faulty makes the registry answer requests for one blob by serve, which gets
// the number of the request, from 1.
func (reg *testRegistry) faulty(desc v1.Descriptor, serve func(n int64, w http.ResponseWriter, r *http.Request)) *atomic.Int64 {
	var count atomic.Int64
	around := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.HasSuffix(r.URL.Path, desc.Digest.String()) {
			next.ServeHTTP(w, r)
			return
		}
		serve(count.Add(1), w, r)
	}
	reg.around.Store(&around)
	return &count
}

// serveRange answers as a registry that knows ranges.
func serveRange(w http.ResponseWriter, r *http.Request, blob []byte) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
}

// cut sends the first n bytes and then breaks the connection.
func cut(w http.ResponseWriter, blob []byte, n int) {
	w.Header().Set("Content-Length", "100000000")
	w.Write(blob[:n])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func TestFaultyRegistries(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve func(blob []byte, n int64, w http.ResponseWriter, r *http.Request)
		tries int64
	}{
		{"breaks off and knows ranges", func(blob []byte, n int64, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				cut(w, blob, 1<<20)
			}
			if r.Header.Get("Range") != "bytes=1048576-" {
				t.Errorf("Range = %q", r.Header.Get("Range"))
			}
			serveRange(w, r, blob)
		}, 2},
		{"breaks off and knows no ranges", func(blob []byte, n int64, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				cut(w, blob, 1<<20)
			}
			w.Write(blob)
		}, 2},
		{"sends another range", func(blob []byte, n int64, w http.ResponseWriter, r *http.Request) {
			switch n {
			case 1:
				cut(w, blob, 1<<20)
			case 2:
				w.Header().Set("Content-Range", "bytes 5-9/100")
				w.WriteHeader(http.StatusPartialContent)
			default:
				serveRange(w, r, blob)
			}
		}, 3},
		{"is overloaded", func(blob []byte, n int64, w http.ResponseWriter, r *http.Request) {
			if n < 3 {
				http.Error(w, "busy", http.StatusServiceUnavailable)
				return
			}
			serveRange(w, r, blob)
		}, 3},
		{"drops the connection", func(blob []byte, n int64, w http.ResponseWriter, r *http.Request) {
			if n < 3 {
				panic(http.ErrAbortHandler)
			}
			serveRange(w, r, blob)
		}, 3},
		{"stops sending", func(blob []byte, n int64, w http.ResponseWriter, r *http.Request) {
			if n > 1 {
				serveRange(w, r, blob)
				return
			}
			w.Header().Set("Content-Length", "100000000")
			w.Write(blob[:1000])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, 2},
		{"breaks off after every quarter", func(blob []byte, n int64, w http.ResponseWriter, r *http.Request) {
			if n < 8 {
				cutRange(w, r, blob, len(blob)/8)
			}
			serveRange(w, r, blob)
		}, 8},
		{"redirects", func(blob []byte, n int64, w http.ResponseWriter, r *http.Request) {
			other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveRange(w, r, blob) }))
			t.Cleanup(other.Close)
			http.Redirect(w, r, other.URL+"/storage?signed", http.StatusTemporaryRedirect)
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg := newTestRegistry(t)
			ref, desc, blob := oneLayer(t, reg)
			count := reg.faulty(desc, func(n int64, w http.ResponseWriter, r *http.Request) { c.serve(blob, n, w, r) })
			cache := t.TempDir()
			img, err := pullFast(t, ref, Options{CacheDir: cache, Platform: "linux/amd64"})
			if err != nil {
				t.Fatalf("pull: %v", err)
			}
			if got, err := os.ReadFile(img.Layers[0].Path); err != nil || !bytes.Equal(got, blob) {
				t.Errorf("the layer is not what the registry has (%v)", err)
			}
			if got := count.Load(); got != c.tries {
				t.Errorf("%d requests, want %d", got, c.tries)
			}
			assertComplete(t, cache, 2)
		})
	}
}

// cutRange honours a range but sends at most n bytes of it.
func cutRange(w http.ResponseWriter, r *http.Request, blob []byte, n int) {
	rec := httptest.NewRecorder()
	serveRange(rec, r, blob)
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	body := rec.Body.Bytes()
	w.Write(body[:min(n, len(body))])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func TestWrongDigest(t *testing.T) {
	reg := newTestRegistry(t)
	ref, desc, blob := oneLayer(t, reg)
	wrong := bytes.Clone(blob)
	wrong[1000] ^= 1
	for name, sent := range map[string][]byte{"another byte": wrong, "more": append(bytes.Clone(wrong), "tail"...)} {
		count := reg.faulty(desc, func(_ int64, w http.ResponseWriter, r *http.Request) { serveRange(w, r, sent) })
		cache := t.TempDir()
		_, err := pullFast(t, ref, Options{CacheDir: cache, Platform: "linux/amd64"})
		if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "digest") {
			t.Errorf("%s: error = %v, want one about the digest", name, err)
		}
		if count.Load() != 1 {
			t.Errorf("%s: %d requests, want 1", name, count.Load())
		}
		assertComplete(t, cache, 1) // the configuration
	}
}

// A partial file with a wrong start costs one fetch more and no error.
func TestWrongPartialFile(t *testing.T) {
	for name, partial := range map[string]string{"wrong": "not the start", "too long": strings.Repeat("x", 8<<20)} {
		t.Run(name, func(t *testing.T) {
			reg := newTestRegistry(t)
			ref, desc, blob := oneLayer(t, reg)
			reg.faulty(desc, func(_ int64, w http.ResponseWriter, r *http.Request) { serveRange(w, r, blob) })
			cache := t.TempDir()
			if err := os.MkdirAll(filepath.Join(cache, "sha256"), 0o700); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(cache, "sha256", desc.Digest.Hex+transfer.PartialSuffix)
			if err := os.WriteFile(file, []byte(partial), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := pullFast(t, ref, Options{CacheDir: cache, Platform: "linux/amd64"}); err != nil {
				t.Fatalf("pull: %v", err)
			}
			assertComplete(t, cache, 2)
		})
	}
}

// What an interrupted pull fetched isn't fetched again.
func TestInterruptedPullGoesOn(t *testing.T) {
	reg := newTestRegistry(t)
	ref, desc, blob := oneLayer(t, reg)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	reg.faulty(desc, func(n int64, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000000")
		w.Write(blob[:1<<20])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	cache := t.TempDir()
	partial := filepath.Join(cache, "sha256", desc.Digest.Hex+transfer.PartialSuffix)
	go func() {
		defer cancel()
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if info, err := os.Stat(partial); err == nil && info.Size() == 1<<20 {
				return
			}
		}
	}()
	p, err := newPuller(ref, Options{CacheDir: cache, Platform: "linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.pull(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted pull: %v", err)
	}
	var ranges []string
	reg.faulty(desc, func(_ int64, w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		serveRange(w, r, blob)
	})
	if _, err := pullFast(t, ref, Options{CacheDir: cache, Platform: "linux/amd64"}); err != nil {
		t.Fatalf("second pull: %v", err)
	}
	if len(ranges) != 1 || ranges[0] != "bytes=1048576-" {
		t.Errorf("ranges asked for: %q", ranges)
	}
	assertComplete(t, cache, 2)
}

func TestDamagedBlobIsFetchedAgain(t *testing.T) {
	reg := newTestRegistry(t)
	ref, _, blob := oneLayer(t, reg)
	cache := t.TempDir()
	img, err := pullFast(t, ref, Options{CacheDir: cache, Platform: "linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img.Layers[0].Path, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := pullFast(t, ref, Options{CacheDir: cache, Platform: "linux/amd64"}); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(img.Layers[0].Path); lt.Digest(got) != lt.Digest(blob) {
		t.Error("the damaged layer is still there")
	}
}

// A registry that lists more than the disk has room for is refused before any
// of it is fetched, and one that fills the disk meanwhile is stopped.
func TestPullLeavesRoom(t *testing.T) {
	for name, before := range map[string]bool{"at the start": true, "meanwhile": false} {
		t.Run(name, func(t *testing.T) {
			reg := newTestRegistry(t)
			ref, desc, blob := oneLayer(t, reg)
			var free atomic.Int64
			free.Store(room.Reserve + desc.Size)
			if before {
				free.Add(-1)
			}
			count := reg.faulty(desc, func(_ int64, w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", strconv.Itoa(len(blob)))
				w.Write(blob[:1<<20])
				w.(http.Flusher).Flush()
				free.Store(room.Reserve - 1)
				<-r.Context().Done()
			})
			cache := t.TempDir()
			_, err := pullFast(t, ref, Options{
				CacheDir: cache, Platform: "linux/amd64",
				Free: func(string) (int64, error) { return free.Load(), nil },
			})
			if !errors.Is(err, api.ErrHost) || !strings.Contains(api.AsError(err).Hint, "kept") {
				t.Errorf("got %v", err)
			}
			if before != (count.Load() == 0) {
				t.Errorf("%d requests for the layer", count.Load())
			}
			if left, err := filepath.Glob(filepath.Join(cache, "*/*"+transfer.PartialSuffix)); len(left) > 0 || err != nil {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
