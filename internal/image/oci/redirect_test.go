package oci

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"banger/internal/api"
)

// encrypted serves a registry also by HTTPS, as example.com, which sends
// requests elsewhere if redirect says so. plain.example is the server plain.
func encrypted(t *testing.T, reg *testRegistry, plain *httptest.Server, redirect func(path string) string) http.RoundTripper {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: reg.host})
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := redirect(r.URL.Path); to != "" {
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		switch address {
		case "example.com:443":
			address = server.Listener.Addr().String()
		case "plain.example:80":
			address = plain.Listener.Addr().String()
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	return transport
}

// TestRedirectsStayEncrypted: a registry of HTTPS can't send us to where
// anybody on the way can answer, neither for the log-in nor for a manifest or a
// blob.
func TestRedirectsStayEncrypted(t *testing.T) {
	reg := newTestRegistry(t)
	reg.push(t, "app:1", imageOf(t, "linux/amd64", randomTar(t, "redirect", 1000)))
	var unencrypted atomic.Int64
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		unencrypted.Add(1)
		http.Redirect(w, r, "http://"+reg.host+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer plain.Close()

	for _, part := range []string{"/v2/", "/manifests/", "/blobs/"} {
		transport := encrypted(t, reg, plain, func(path string) string {
			if strings.Contains(path, part) && (part != "/v2/" || path == part) {
				return "http://plain.example" + path + "?signature=hunter2"
			}
			return ""
		})
		_, err := pullFast(t, "example.com/app:1", Options{CacheDir: t.TempDir(), Platform: "linux/amd64", Transport: transport})
		if !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), "isn't encrypted") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("redirected %s: got %v", part, err)
		}
	}
	if n := unencrypted.Load(); n != 0 {
		t.Errorf("%d requests were made without encryption", n)
	}

	transport := encrypted(t, reg, plain, func(path string) string {
		if strings.HasPrefix(path, "/v2/app/blobs/") {
			return "https://example.com" + strings.Replace(path, "/v2/", "/v2//", 1)
		}
		return ""
	})
	img, err := pullFast(t, "example.com/app:1", Options{CacheDir: t.TempDir(), Platform: "linux/amd64", Transport: transport})
	if err != nil {
		t.Fatalf("without such redirects: %v", err)
	}
	if err := img.Close(); err != nil {
		t.Error(err)
	}
}

// TestSignedAddresses: a blob that can't be had from where a registry keeps it
// is told without what signs its address.
func TestSignedAddresses(t *testing.T) {
	reg := newTestRegistry(t)
	ref := reg.push(t, "app:1", imageOf(t, "linux/amd64", randomTar(t, "signed", 1000)))
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	around := func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, away.URL+"/blob?X-Amz-Signature=hunter2", http.StatusTemporaryRedirect)
	}
	reg.around.Store(&around)
	_, err := pullFast(t, ref, Options{CacheDir: t.TempDir(), Platform: "linux/amd64"})
	if !errors.Is(err, api.ErrHost) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}
