package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
	"banger/internal/daemon/daemontest"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew")

func newServer(t *testing.T) *Server {
	services := daemontest.NewServices(t.TempDir())
	return New(Config{
		Version: "v1",
		Log:     slog.New(slog.NewTextHandler(t.Output(), nil)),
		VMs:     services.VMs,
		Images:  services.Images,
		Kernels: services.Kernels,
		Usage:   services.Usage,
		Hosts:   daemontest.Hosts{},
	})
}

// ask sends a request as if from a peer and returns the status and the error
// in the answer, if it is one.
func ask(s *Server, from peer, r *http.Request) (int, api.Error) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, from)))
	var e api.Error
	_ = json.Unmarshal(w.Body.Bytes(), &e) // a success is no api.Error
	return w.Code, e
}

func TestWhoMayCall(t *testing.T) {
	const own = 1000
	tests := []struct {
		name string
		peer peer
		want api.Code // "": welcome
	}{
		{"the user", peer{uid: own}, ""},
		{"root", peer{uid: 0}, ""},
		{"another user", peer{uid: 1001}, api.CodeInvalid},
		{"an unmapped user", peer{uid: 65534}, api.CodeInvalid},
		{"unknown", peer{uid: own, err: errors.New("no credentials")}, api.CodeInternal},
	}
	s := newServer(t)
	s.uid = own
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, e := ask(s, tt.peer, httptest.NewRequest("GET", "/v1/vms", nil))
			if e.Code != tt.want {
				t.Errorf("code = %q, want %q", e.Code, tt.want)
			}
		})
	}
	t.Run("no connection known", func(t *testing.T) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", "/v1/vms", nil))
		if w.Code != http.StatusInternalServerError {
			t.Errorf("status = %d, want a refusal", w.Code)
		}
	})
}

func TestPeerUID(t *testing.T) {
	l, err := listenUnix(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if uid, err := peerUID(in); err != nil || int(uid) != os.Getuid() {
		t.Errorf("peer = %d, %v; want %d", uid, err, os.Getuid())
	}
	piped, other := net.Pipe()
	defer piped.Close()
	defer other.Close()
	if _, err := peerUID(piped); err == nil {
		t.Error("a pipe has a known peer")
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name, method, path, body string
		header                   [2]string
		status                   int
		code                     api.Code
	}{
		{"web page", "GET", "/v1/vms", "", [2]string{"Origin", "http://evil.example"}, 400, api.CodeInvalid},
		{"web link", "GET", "/v1/vms", "", [2]string{"Referer", "http://evil.example/x"}, 400, api.CodeInvalid},
		{"other version", "GET", "/v1/vms", "", [2]string{api.VersionHeader, "v2"}, 412, api.CodeVersion},
		{"other version asks which", "GET", "/v1/version", "", [2]string{api.VersionHeader, "v2"}, 200, ""},
		{"same version", "GET", "/v1/vms", "", [2]string{api.VersionHeader, "v1"}, 200, ""},
		{"no version", "GET", "/v1/vms", "", [2]string{}, 200, ""},
		{"unknown path", "GET", "/v1/nothing", "", [2]string{}, 404, api.CodeNotFound},
		{"wrong method", "DELETE", "/v1/vms", "", [2]string{}, 404, api.CodeNotFound},
		{"not JSON", "POST", "/v1/vms", "name=web", [2]string{}, 400, api.CodeInvalid},
		{"unknown field", "POST", "/v1/vms", `{"nmae":"web"}`, [2]string{}, 400, api.CodeInvalid},
		{"two values", "POST", "/v1/vms", `{"name":"web"} {}`, [2]string{}, 400, api.CodeInvalid},
		{"too long", "POST", "/v1/vms", `{"name":"` + strings.Repeat("a", maxBody) + `"}`, [2]string{}, 400, api.CodeInvalid},
		{"no body", "POST", "/v1/vms", "", [2]string{}, 200, ""},
		{"error before progress", "POST", "/v1/vms/nope/start", "{}", [2]string{}, 404, api.CodeNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			if tt.header[0] != "" {
				r.Header.Set(tt.header[0], tt.header[1])
			}
			status, e := ask(newServer(t), peer{uid: 0}, r)
			if status != tt.status || e.Code != tt.code {
				t.Errorf("status %d, code %q (%s); want %d, %q", status, e.Code, e.Msg, tt.status, tt.code)
			}
		})
	}
}

// TestProgressNeverBlocks: the client reads nothing, the work reports a lot.
func TestProgressNeverBlocks(t *testing.T) {
	pr, pw := io.Pipe()
	w := &pipeWriter{ResponseRecorder: httptest.NewRecorder(), w: pw}
	events := newEventWriter(w)
	events.progress(api.Progress{Phase: "a"}) // its write blocks on the pipe
	for i := range 10_000 {
		events.progress(api.Progress{Phase: "b", Done: int64(i)})
	}
	events.progress(api.Progress{Notice: "first"})
	events.progress(api.Progress{Notice: "second"})
	events.progress(api.Progress{Phase: "b", Finished: true})
	events.progress(api.Progress{Phase: "b", Title: "again"})

	lines := make(chan string, 1)
	go func() {
		data, _ := io.ReadAll(pr)
		lines <- string(data)
	}()
	if !events.close() {
		t.Error("nothing was begun")
	}
	events.progress(api.Progress{Phase: "late"})
	pw.Close()
	got := <-lines
	if n := strings.Count(got, "\n"); n > 7 {
		t.Errorf("%d events waited for a slow client, want only the newest of each phase", n)
	}
	for _, notice := range []string{"first", "second"} {
		if !strings.Contains(got, `"notice":"`+notice+`"`) {
			t.Errorf("a notice was lost: %s", got)
		}
	}
	if !strings.HasSuffix(got, `{"type":"progress","progress":{"phase":"b","finished":true}}`+"\n"+
		`{"type":"progress","progress":{"phase":"b","title":"again"}}`+"\n") {
		t.Errorf("the last events are missing or out of order: %s", got)
	}
}

// pipeWriter is a ResponseWriter whose body goes to a pipe.
type pipeWriter struct {
	*httptest.ResponseRecorder
	w io.Writer
}

func (p *pipeWriter) Write(b []byte) (int, error) { return p.w.Write(b) }

func TestListenIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := listenUnix(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "s"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v; want 0600", info.Mode(), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestOpenAPI keeps docs/openapi.json what the routes are; -update writes it.
func TestOpenAPI(t *testing.T) {
	got, err := newServer(t).OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	page := filepath.Join("..", "..", "docs", "openapi.json")
	if *update {
		if err := os.WriteFile(page, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("docs/openapi.json is out of date; run: go test ./internal/daemon -update\n%s", cmp.Diff(string(want), string(got)))
	}
}
