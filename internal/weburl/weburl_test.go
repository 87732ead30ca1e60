package weburl

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"https://host/a/b.toml":             "https://host/a/b.toml",
		"https://user:secret@host/a":        "https://host/a",
		"https://secret@host:8443/a":        "https://host:8443/a",
		"https://host/a?token=secret#x":     "https://host/a?…",
		"https://user:se%cret@host/a":       "https://host/a", // not a URL
		"https://user:se cret@host/a":       "https://host/a",
		"https://us@er:secret@host/a":       "https://host/a",
		"https://user:secret@host:port/a?b": "https://host:port/a?…",
		"http://[::1/a":                     "http://[::1/a",
		"https://host/@scope/a":             "https://host/@scope/a",
		"none//user:secret@host/a":          "none//host/a",
		"/srv/file":                         "/srv/file",
		"":                                  "",
	} {
		if got := Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestError(t *testing.T) {
	for _, address := range []string{"http://user:secret@127.0.0.1:1/?secret", "http://secret@127.0.0.1:1/", "http://user:se%cret@x/", "http://user:secret@x:secret/"} {
		_, err := http.Get(address)
		if err == nil {
			t.Fatalf("got something from %s", address)
		}
		var failed *url.Error
		if err := Error(err); strings.Contains(err.Error(), "secret@") || strings.Contains(err.Error(), "?secret") || !errors.As(err, &failed) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if Error(nil) != nil || !errors.Is(Error(io.EOF), io.EOF) {
		t.Error("other errors are changed")
	}
}

// TestRedirects: by a client's rule and by a transport.
func TestRedirects(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer plain.Close()
	var next string
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/end" {
			http.Redirect(w, r, next, http.StatusFound)
		}
	}))
	defer secure.Close()
	withTransport := *secure.Client()
	withTransport.Transport = Transport(withTransport.Transport)
	for name, client := range map[string]*http.Client{"client": Client(secure.Client()), "transport": &withTransport} {
		for _, tt := range []struct {
			start, next string
			refused     bool
		}{
			{secure.URL, plain.URL + "/?secret", true},
			{secure.URL, secure.URL + "/end", false},
			{plain.URL, "", false},
		} {
			next = tt.next
			res, err := client.Get(tt.start)
			var downgrade *DowngradeError
			if errors.As(err, &downgrade) != tt.refused || (err == nil) == tt.refused {
				t.Errorf("%s: from %s to %s: %v", name, tt.start, tt.next, err)
			}
			if err == nil {
				res.Body.Close()
			} else if strings.Contains(Error(err).Error(), "secret") {
				t.Errorf("%s: %v", name, Error(err))
			}
		}
	}
	next = secure.URL
	if res, err := Client(secure.Client()).Get(secure.URL); err == nil {
		res.Body.Close()
		t.Error("a circle has an end")
	}
}
