package catalog

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
)

// server is a web server with a catalog.
type server struct {
	*httptest.Server
	body   string
	etag   string
	status int // if not 0, the answer to everything
	sent   int // how often the body was sent
}

func newServer(t *testing.T, body string) *server {
	t.Helper()
	s := &server{body: body, etag: `"1"`}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.status != 0:
			w.WriteHeader(s.status)
		case r.Header.Get("If-None-Match") == s.etag:
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("ETag", s.etag)
			_, _ = w.Write([]byte(s.body))
			s.sent++
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) remote(t *testing.T) (Remote, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	return Remote{
		URL:       s.URL + "/catalog.toml",
		CacheFile: filepath.Join(t.TempDir(), "cache", "catalog.json"),
		Client:    s.Client(),
		Log:       slog.New(slog.NewTextHandler(&log, nil)),
	}, &log
}

func mustLoad(t *testing.T, r Remote) Catalog {
	t.Helper()
	c, err := r.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The zero client is one that works.
func TestRemoteDefaultClient(t *testing.T) {
	r, _ := newServer(t, bundleImage).remote(t)
	r.Client = nil
	if _, ok := mustLoad(t, r).Image("alpine"); !ok {
		t.Error("there is no alpine")
	}
}

func TestRemote(t *testing.T) {
	s := newServer(t, bundleImage)
	r, log := s.remote(t)
	for range 2 {
		if _, ok := mustLoad(t, r).Image("alpine"); !ok {
			t.Fatal("there is no alpine")
		}
	}
	if s.sent != 1 {
		t.Errorf("the catalog was sent %d times, though it had not changed", s.sent)
	}
	s.body, s.etag = strings.Replace(bundleImage, `"alpine"`, `"newer"`, 1), `"2"`
	if _, ok := mustLoad(t, r).Image("newer"); !ok {
		t.Error("the new catalog was not taken")
	}
	if log.Len() > 0 {
		t.Errorf("unexpected warnings: %s", log)
	}

	s.status = http.StatusBadGateway
	if _, ok := mustLoad(t, r).Image("newer"); !ok {
		t.Error("the copy was not used when the server was broken")
	}
	if !strings.Contains(log.String(), "use the copy of the catalog") || !strings.Contains(log.String(), "502") {
		t.Errorf("no warning: %s", log)
	}
	s.Close()
	if _, ok := mustLoad(t, r).Image("newer"); !ok {
		t.Error("the copy was not used when the server was away")
	}
	// Another server's copy is none.
	r.URL += "?other"
	var e *api.Error
	if _, err := r.Load(t.Context()); !errors.As(err, &e) || e.Code != api.CodeHost || e.Hint == "" {
		t.Errorf("got %v", err)
	}
}

// Whoever serves a catalog must not be able to run commands here.
func TestRemoteRules(t *testing.T) {
	kernel := "[[kernel]]\nname = 'k'\ndescription = 'k'\narch = ['amd64']\ndisk_bytes = 1\n"
	for name, c := range map[string]struct{ text, want string }{
		"image recipe":   {bundleImage + "[image.recipe]\nsuite = 'bookworm'\nrun = ['reboot']\n", `image "alpine" has a recipe`},
		"kernel recipe":  {kernel + "recipe = { suite = 'trixie', package = { amd64 = 'linux' } }\n", `kernel "k" has a recipe`},
		"base":           {"[base.x]\nrun = ['reboot']\n", "[base]"},
		"no hash":        {strings.Replace(bundleImage, someHash, "", 1), "64 hexadecimal digits"},
		"unknown kernel": {strings.Replace(bundleImage, "generic-6.12", "other", 1), `needs kernel "other"`},
		"no catalog":     {"<html>", "catalog:1:"},
		"too big":        {strings.Repeat("#", maxRemote+1), "bigger than 1 MiB"},
	} {
		s := newServer(t, c.text)
		r, _ := s.remote(t)
		for range 2 { // nor may a copy of it be used later
			_, err := r.Load(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want %q in it", name, err, c.want)
			}
		}
	}
}

// A bad catalog must not replace the good copy.
func TestRemoteKeepsGoodCopy(t *testing.T) {
	s := newServer(t, bundleImage)
	r, _ := s.remote(t)
	mustLoad(t, r)
	s.body, s.etag = "<html>", `"2"`
	if _, err := r.Load(t.Context()); err == nil {
		t.Error("nonsense was taken for a catalog")
	}
	s.status = http.StatusServiceUnavailable
	if _, ok := mustLoad(t, r).Image("alpine"); !ok {
		t.Error("the good copy is gone")
	}
}
