package download

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
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

	"banger/internal/api"
	"banger/internal/room"
	"banger/internal/transfer"
)

func TestFile(t *testing.T) {
	content := noise(300_000)
	for name, set := range map[string]func(*server){
		"plain":         func(*server) {},
		"chunked":       func(s *server) { s.chunked = true },
		"busy at first": func(s *server) { s.statuses = []int{503, 429} },
	} {
		s := serve(t, content)
		set(s)
		path := filepath.Join(t.TempDir(), "sub", "file")
		var done, total int64
		o := s.options(sumOf(content))
		o.Progress = func(d, t int64) { done, total = d, t }
		if err := File(t.Context(), s.URL, path, o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		checkFile(t, path, content)
		if done != int64(len(content)) || total != done && !s.chunked {
			t.Errorf("%s: progress ended at %d of %d", name, done, total)
		}
		before := len(s.asked())
		if err := File(t.Context(), s.URL, path, o); err != nil || len(s.asked()) != before {
			t.Errorf("%s: asked again for what is there, %v", name, err)
		}
	}
}

func TestDroppedConnections(t *testing.T) {
	content := noise(1_000_000)
	for name, sum := range map[string]string{"with a sum": sumOf(content), "without": ""} {
		s := serve(t, content)
		s.cut = 300_000
		path := filepath.Join(t.TempDir(), "file")
		if err := File(t.Context(), s.URL, path, s.options(sum)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		checkFile(t, path, content)
		// What comes before the break may be lost in part.
		if asked := s.asked(); len(asked) < 4 || asked[0] != "" || !strings.HasSuffix(asked[1], `- "one"`) {
			t.Errorf("%s: requests %q", name, asked)
		}
	}
}

// interrupt downloads a part of what s serves and returns how much.
func interrupt(t *testing.T, s *server, path string) int64 {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.change(func() { s.cut = len(s.content) / 2; s.statuses = nil })
	o := s.options("")
	o.Retry = &Retry{Attempts: 2, First: time.Hour, Max: time.Hour, Stall: time.Hour}
	var have int64
	o.Progress = func(done, total int64) {
		have = done
		if done == total/2 {
			cancel()
		}
	}
	if err := File(ctx, s.URL, path, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("an interrupted download got %v", err)
	}
	info, err := os.Stat(path + transfer.PartialSuffix)
	if err != nil || info.Size() != have || have == 0 {
		t.Fatalf("%v, %v left of %d bytes", info, err, have)
	}
	s.change(func() { s.cut = 0; s.requests = nil })
	return have
}

func TestResume(t *testing.T) {
	old, changed := noise(400_000), append(noise(399_999), 'x')
	for _, tt := range []struct {
		name   string
		before func(*server) // the first attempt
		then   func(*server) // before the second one
		sum    string
		want   []byte
		ranges []bool // of the second attempt's requests: whether they are for a part
	}{
		{name: "entity tag", want: old, ranges: []bool{true}},
		{name: "date", before: func(s *server) { s.etag, s.date = "", "Mon, 02 Jan 2006 15:04:05 GMT" }, want: old, ranges: []bool{true}},
		{name: "weak tag and no date", before: func(s *server) { s.etag = `W/"x"` }, want: old, ranges: []bool{false}},
		{name: "nothing but the sum", before: func(s *server) { s.etag = "" }, sum: sumOf(old), want: old, ranges: []bool{true}},
		{name: "another version now", then: func(s *server) { s.etag, s.content = `"two"`, changed }, want: changed, ranges: []bool{true}},
		{name: "no ranges now", then: func(s *server) { s.noRange = true }, want: old, ranges: []bool{true}},
		{name: "shorter now", then: func(s *server) { s.content = []byte("short") }, want: []byte("short"), ranges: []bool{true, false}},
		{name: "the start is of another file", before: func(s *server) { s.content = []byte(strings.Repeat("x", len(old))) },
			then: func(s *server) { s.content = old }, sum: sumOf(old), want: old, ranges: []bool{true, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, old)
			path := filepath.Join(t.TempDir(), "file")
			if tt.before != nil {
				tt.before(s)
			}
			interrupt(t, s, path)
			if tt.then != nil {
				tt.then(s)
			}
			if err := File(t.Context(), s.URL, path, s.options(tt.sum)); err != nil {
				t.Error(err)
			}
			checkFile(t, path, tt.want)
			var ranges []bool
			for _, r := range s.asked() {
				ranges = append(ranges, r != "")
			}
			if diff := cmp.Diff(tt.ranges, ranges); diff != "" {
				t.Errorf("requests for parts: %s", diff)
			}
		})
	}
}

// A crash may come between the last byte and the new name.
func TestResumeComplete(t *testing.T) {
	content := noise(1000)
	s := serve(t, content)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path+transfer.PartialSuffix, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := File(t.Context(), s.URL, path, s.options(sumOf(content))); err != nil {
		t.Error(err)
	}
	checkFile(t, path, content)
	if asked := s.asked(); len(asked) > 0 {
		t.Errorf("requests %q", asked)
	}
}

func TestRefused(t *testing.T) {
	content := noise(10_000)
	sum := sumOf(content)
	for _, tt := range []struct {
		name     string
		set      func(*server, *Options)
		want     error
		text     string
		requests int
	}{
		{"not there", func(s *server, _ *Options) { s.statuses = []int{404} }, api.ErrNotFound, "nothing at", 1},
		{"forbidden", func(s *server, _ *Options) { s.statuses = []int{403} }, api.ErrHost, "403 Forbidden", 1},
		{"down", func(s *server, _ *Options) { s.statuses = []int{500, 502, 503, 504} }, api.ErrHost, "503", 3},
		{"tampered", func(_ *server, o *Options) { o.SHA256 = sumOf([]byte("x")) }, api.ErrInvalid, "its sha256 is " + sum, 1},
		{"too long", func(_ *server, o *Options) { o.MaxBytes = 9999 }, api.ErrInvalid, "longer than", 1},
		{"too long without a length", func(s *server, o *Options) { s.chunked = true; o.MaxBytes = 9999 }, api.ErrInvalid, "longer than", 1},
		{"not a sum", func(_ *server, o *Options) { o.SHA256 = "abc" }, api.ErrInvalid, "sha256", 0},
		{"truncated for ever", func(s *server, _ *Options) { s.cut, s.noRange = 500, true }, api.ErrHost, "unexpected EOF", 3},
	} {
		s := serve(t, content)
		o := s.options(sum)
		tt.set(s, &o)
		path := filepath.Join(t.TempDir(), "file")
		err := File(t.Context(), s.URL, path, o)
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: got %v", tt.name, err)
		}
		if got := len(s.asked()); got != tt.requests {
			t.Errorf("%s: %d requests, want %d", tt.name, got, tt.requests)
		}
		if tt.name != "truncated for ever" {
			checkNames(t, filepath.Dir(path))
		}
	}
	for _, address := range []string{"ftp://127.0.0.1/x", "file:///etc/passwd", "/x", "http://", "%"} {
		if err := File(t.Context(), address, filepath.Join(t.TempDir(), "x"), Options{}); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// An address with a password must not get into errors.
func TestPasswordIsNotTold(t *testing.T) {
	s := serve(t, nil)
	s.statuses = []int{403}
	address := strings.Replace(s.URL, "http://", "http://user:secret@", 1)
	err := File(t.Context(), address, filepath.Join(t.TempDir(), "x"), s.options(""))
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestStall(t *testing.T) {
	content := noise(1000)
	s := serve(t, content)
	s.wait = make(chan struct{})
	o := s.options("")
	o.Retry = &Retry{Attempts: 2, First: time.Millisecond, Max: time.Millisecond, Stall: 20 * time.Millisecond}
	path := filepath.Join(t.TempDir(), "file")
	if err := File(t.Context(), s.URL, path, o); !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), "stopped sending") {
		t.Errorf("got %v", err)
	}
	close(s.wait)
	if err := File(t.Context(), s.URL, path, s.options("")); err != nil {
		t.Error(err)
	}
	checkFile(t, path, content)
}

func TestTwoAtOnce(t *testing.T) {
	content := noise(300_000)
	for name, sum := range map[string]string{"with a sum": sumOf(content), "without": ""} {
		s := serve(t, content)
		s.wait = make(chan struct{})
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte("of an earlier time"), 0o600); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		waits := make(chan struct{}, 4)
		for range 4 {
			wg.Go(func() {
				o := s.options(sum)
				var once sync.Once
				o.Progress = func(int64, int64) { once.Do(func() { waits <- struct{}{} }) }
				if err := File(t.Context(), s.URL, path, o); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		for range 3 { // all but the one that waits for the server
			<-waits
		}
		close(s.wait)
		wg.Wait()
		checkFile(t, path, content)
		if asked := s.asked(); len(asked) != 1 {
			t.Errorf("%s: requests %q", name, asked)
		}
	}
}

func TestCancelWhileWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f, err := transfer.Lock(path + transfer.PartialSuffix)
	if err != nil || f == nil {
		t.Fatal(f, err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	err = File(ctx, "http://127.0.0.1:1/", path, Options{Progress: func(int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, []byte("x"))
	// /dev/full is a disk without room.
	if err := os.Symlink("/dev/full", filepath.Join(dir, "file"+transfer.PartialSuffix)); err != nil {
		t.Fatal(err)
	}
	err := File(t.Context(), s.URL, filepath.Join(dir, "file"), s.options(""))
	if !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), "is full") {
		t.Errorf("got %v", err)
	}
	checkNames(t, dir)
}

// What a server sends without end stops at the reserve, on the disk of the
// download or on that of the result, and leaves nothing.
func TestDownloadLeavesRoom(t *testing.T) {
	for name, own := range map[string]bool{"of the download": true, "of the result": false} {
		t.Run(name, func(t *testing.T) {
			var here, there atomic.Int64
			here.Store(room.Reserve)
			there.Store(room.Reserve)
			endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Write(make([]byte, 1<<20))
				w.(http.Flusher).Flush()
				if own {
					here.Store(room.Reserve - 1)
				} else {
					there.Store(room.Reserve - 1)
				}
				<-r.Context().Done()
			}))
			t.Cleanup(endless.Close)
			dir := t.TempDir()
			o := Options{Retry: quick, Free: func(string) (int64, error) { return here.Load(), nil }}
			ctx, stop := room.Limit{Dir: "/there", Free: func(string) (int64, error) { return there.Load(), nil }}.Watch(t.Context())
			defer stop()
			if err := File(ctx, endless.URL, filepath.Join(dir, "file"), o); !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), "512 MiB") {
				t.Errorf("got %v", err)
			}
			checkNames(t, dir)
		})
	}
}

func TestRedirects(t *testing.T) {
	plain := serve(t, []byte("x"))
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer secure.Close()
	dir := t.TempDir()
	err := File(t.Context(), secure.URL, filepath.Join(dir, "x"), Options{Client: secure.Client(), Retry: quick})
	if !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), "isn't encrypted") {
		t.Errorf("got %v", err)
	}
	open := httptest.NewServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer open.Close()
	if err := File(t.Context(), open.URL, filepath.Join(dir, "x"), Options{Client: open.Client(), Retry: quick}); err != nil {
		t.Error(err)
	}
	checkFile(t, filepath.Join(dir, "x"), []byte("x"))
}

func TestTemporary(t *testing.T) {
	for err, want := range map[error]bool{
		io.ErrUnexpectedEOF:     true,
		transfer.ErrStalled:     true,
		context.Canceled:        false,
		&statusError{code: 503}: true,
		&statusError{code: 501}: false,
		&statusError{code: 429}: true,
		&statusError{code: 401}: false,
		errors.New("bug"):       false,
	} {
		if got := temporary(err); got != want {
			t.Errorf("temporary(%v) = %v", err, got)
		}
	}
}

// TestPassword: no error and no log tells what logs in to the server.
func TestPassword(t *testing.T) {
	away := httptest.NewServer(http.NotFoundHandler())
	host := strings.TrimPrefix(away.URL, "http://")
	missing := serve(t, nil)
	var log bytes.Buffer
	options := Options{Retry: quick, Log: slog.New(slog.NewTextHandler(&log, nil)), MaxBytes: 1 << 20, SHA256: strings.Repeat("0", 64)}
	for range 2 {
		for _, rawURL := range []string{
			"http://user:hunter2@" + host + "/?token=hunter2",
			"http://hunter2@" + host,
			"http://user:hun%ter2@" + host,
			"ftp://user:hunter2@" + host,
			strings.Replace(missing.URL, "://", "://user:hunter2@", 1) + "/?token=hunter2",
		} {
			err := File(t.Context(), rawURL, filepath.Join(t.TempDir(), "x"), options)
			if err == nil || strings.Contains(err.Error(), "ter2") {
				t.Errorf("%s: got %v", rawURL, err)
			}
		}
		away.Close() // and now nobody answers
	}
	if strings.Contains(log.String(), "hunter2") {
		t.Errorf("the log is %s", log.String())
	}
}
