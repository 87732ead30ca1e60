package catalog

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestRemoteRedirects: what an encrypted server has is not taken from one that
// anybody on the way can speak for.
func TestRemoteRedirects(t *testing.T) {
	plain := newServer(t, bundleImage)
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer secure.Close()
	r, _ := plain.remote(t)
	r.URL, r.Client = secure.URL, secure.Client()
	if _, err := r.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "isn't encrypted") {
		t.Errorf("got %v", err)
	}
	if plain.sent != 0 {
		t.Error("the catalog was fetched without encryption")
	}

	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(bundleImage))
	}))
	defer other.Close()
	moved := httptest.NewTLSServer(http.RedirectHandler(other.URL, http.StatusFound))
	defer moved.Close()
	r.URL = moved.URL
	mustLoad(t, r)
}

// TestRemotePassword: whatever goes wrong, no error and no log names what logs
// in to the server.
func TestRemotePassword(t *testing.T) {
	s := newServer(t, "<html>")
	r, log := s.remote(t)
	host := strings.TrimPrefix(s.URL, "http://")
	for _, rawURL := range []string{
		"http://user:hunter2@" + host + "/catalog.toml", // nonsense instead of a catalog
		"http://hunter2@" + host + "/?token=hunter2",
		"http://user:hunter2@127.0.0.1:1/",   // nobody listens
		"http://user:hun%ter2@" + host + "/", // no URL
		"http://user:hunter2@" + host + ":hunter2/",
		"gopher://user:hunter2@" + host + "/",
	} {
		r.URL = rawURL
		_, err := r.Load(t.Context())
		if err == nil {
			t.Errorf("%s: got a catalog", rawURL)
			continue
		}
		for _, secret := range []string{"hunter2@", "hun%ter2", "=hunter2"} {
			if strings.Contains(err.Error(), secret) || strings.Contains(log.String(), secret) {
				t.Errorf("%s: the error is %v, the log %s", rawURL, err, log)
			}
		}
	}
	// The same where the copy is used instead.
	s.body = bundleImage
	r.URL = "http://user:hunter2@" + host + "/catalog.toml"
	mustLoad(t, r)
	s.status = http.StatusBadGateway
	mustLoad(t, r)
	s.Close()
	mustLoad(t, r)
	if !strings.Contains(log.String(), "use the copy of the catalog") || strings.Contains(log.String(), "hunter2") {
		t.Errorf("the log is %s", log)
	}
	// A catalog that is wrong about a bundle that needs a password.
	text := strings.Replace(bundleImage, "https://", "https://user:hunter2@", 1)
	for _, change := range []string{someHash, "https:", "amd64"} {
		_, err := Parse([]byte(strings.Replace(text, change, "none", 1)))
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("without %s: got %v", change, err)
		}
	}
}
