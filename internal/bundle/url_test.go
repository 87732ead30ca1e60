package bundle

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/download"
)

// serve serves data; cut connections break after half of it.
func serve(t *testing.T, data []byte, cut *atomic.Int32) (url string, o Options) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"x"`)
		if cut.Add(-1) >= 0 {
			w = &breaking{ResponseWriter: w, left: len(data) / 2}
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	t.Cleanup(server.Close)
	retry := &download.Retry{Attempts: 3, First: time.Millisecond, Max: time.Millisecond, Stall: 30 * time.Second}
	return server.URL + "/x.tar.zst", Options{CacheDir: t.TempDir(), Client: server.Client(), Retry: retry}
}

// breaking breaks the connection after so many bytes.
type breaking struct {
	http.ResponseWriter
	left int
}

func (w *breaking) Write(p []byte) (int, error) {
	if len(p) > w.left {
		w.ResponseWriter.Write(p[:w.left])
		w.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	w.left -= len(p)
	return w.ResponseWriter.Write(p)
}

func TestFromURL(t *testing.T) {
	path, made := sample(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var cut atomic.Int32
	cut.Store(1)
	url, o := serve(t, data, &cut)
	o.SHA256 = made.SHA256
	var percents []int
	o.Report = func(_ string, percent int) { percents = append(percents, percent) }
	dir := t.TempDir()
	if sum, err := Unpack(t.Context(), url, dir, o); err != nil || sum != made.SHA256 {
		t.Fatalf("got %s, %v", sum, err)
	}
	if got := tree(t, dir); got["rootfs.ext4"] != string(rootfs()) {
		t.Error("the files differ")
	}
	checkEmpty(t, o.CacheDir)
	if last := percents[len(percents)-1]; last < downloadShare || last > unpackShare {
		t.Errorf("progress ended at %d %%", last)
	}
	if n := cut.Load(); n != -1 {
		t.Errorf("%d requests, want two", 1-n)
	}
}

// A bundle whose sum is wrong is not unpacked at all.
func TestTamperedURL(t *testing.T) {
	path, _ := sample(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	url, o := serve(t, data, new(atomic.Int32))
	o.SHA256 = sumOf([]byte("another"))
	dir := t.TempDir()
	if _, err := Unpack(t.Context(), url, dir, o); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), url) {
		t.Errorf("got %v", err)
	}
	checkEmpty(t, dir)
	checkEmpty(t, o.CacheDir)
}

// Without a sum it is its form that is checked, and nothing stays either.
func TestGarbageURL(t *testing.T) {
	url, o := serve(t, noise(5000), new(atomic.Int32))
	if _, err := Unpack(t.Context(), url, t.TempDir(), o); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), url) {
		t.Errorf("got %v", err)
	}
	checkEmpty(t, o.CacheDir)
}

// cancelOnLog cancels when something is logged.
type cancelOnLog struct {
	slog.Handler
	cancel func()
}

func (h cancelOnLog) Enabled(context.Context, slog.Level) bool { return true }

func (h cancelOnLog) Handle(context.Context, slog.Record) error {
	h.cancel()
	return nil
}

// What was fetched before a cancelled pull is there for the next one.
func TestCancelledURL(t *testing.T) {
	path, made := sample(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var cut atomic.Int32
	cut.Store(1)
	url, o := serve(t, data, &cut)
	o.SHA256 = made.SHA256
	slow := o
	slow.Retry = &download.Retry{Attempts: 2, First: time.Hour, Max: time.Hour, Stall: time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow.Log = slog.New(cancelOnLog{slog.DiscardHandler, cancel}) // it logs before it tries again
	if _, err := Unpack(ctx, url, t.TempDir(), slow); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if partial, err := filepath.Glob(filepath.Join(o.CacheDir, "*.partial")); err != nil || len(partial) != 1 {
		t.Errorf("partial files: %v, %v", partial, err)
	}
	if _, err := Unpack(t.Context(), url, t.TempDir(), o); err != nil {
		t.Error(err)
	}
	checkEmpty(t, o.CacheDir)
}
