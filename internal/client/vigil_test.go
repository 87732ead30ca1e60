package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/paths"
)

// quick is how long a bangerd of these tests may be silent.
const quick = 200 * time.Millisecond

// listenOnly returns a client and a listener that nothing accepts from: so the
// kernel answers for a bangerd that is stopped.
func listenOnly(t *testing.T) (*Client, net.Listener) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bgr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	layout := paths.Layout{Runtime: dir, State: dir}
	l, err := net.Listen("unix", layout.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c := New(Config{Layout: layout, Version: "v1", silence: quick})
	t.Cleanup(c.Close)
	return c, l
}

// serveHTTP answers on l. While deaf is set nothing is answered.
func serveHTTP(t *testing.T, l net.Listener, handler http.Handler) (deaf *atomic.Bool) {
	t.Helper()
	deaf = new(atomic.Bool)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if deaf.Load() {
			<-r.Context().Done()
			return
		}
		w.Header().Set(api.VersionHeader, "v1")
		handler.ServeHTTP(w, r)
	}))
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return deaf
}

// wantSilent checks that err names this process, which is the one that listens.
func wantSilent(t *testing.T, err error) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != api.CodeDaemon || e.Msg != fmt.Sprintf("bangerd, pid %d, does not answer", os.Getpid()) ||
		!strings.Contains(e.Hint, fmt.Sprintf("kill -9 %d", os.Getpid())) {
		t.Errorf("got %#v", err)
	}
}

func TestSilentDaemonIsGivenUp(t *testing.T) {
	c, _ := listenOnly(t)
	ctx := WithoutStart(t.Context())
	_, err := Call(ctx, c, api.ListVMs, api.None{})
	wantSilent(t, err)
	_, err = Stream(ctx, c, api.CreateVMRoute, api.CreateVM{}, nil)
	wantSilent(t, err)
	_, err = c.Logs(ctx, "web", false)
	wantSilent(t, err)
	_, err = c.DialGuest(ctx, "web", 22)
	wantSilent(t, err)
	wantSilent(t, c.CheckAlive(ctx))
	if _, err = c.Stop(ctx); err == nil {
		t.Error("a silent bangerd was stopped")
	}
	wantSilent(t, err)
}

// TestSilenceInAnAnswer: a bangerd may be stopped in the midst of one.
func TestSilenceInAnAnswer(t *testing.T) {
	c, l := listenOnly(t)
	var deaf *atomic.Bool
	deaf = serveHTTP(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"type":"progress","progress":{"phase":"boot"}}`+"\n")
		_ = http.NewResponseController(w).Flush()
		deaf.Store(true)
		<-r.Context().Done()
	}))
	ctx := WithoutStart(t.Context())
	phases := 0
	_, err := Stream(ctx, c, api.CreateVMRoute, api.CreateVM{}, func(api.Progress) { phases++ })
	wantSilent(t, err)
	if phases != 1 {
		t.Errorf("saw %d phases", phases)
	}
	deaf.Store(false)
	log, err := c.Logs(ctx, "web", true)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	_, err = io.ReadAll(log)
	wantSilent(t, err)
}

// TestLongCallIsNotGivenUp: a bangerd that answers questions may take as long as
// it likes, with and without progress.
func TestLongCallIsNotGivenUp(t *testing.T) {
	c, l := listenOnly(t)
	var asked atomic.Int64
	wait := func() {
		for before := asked.Load(); asked.Load() < before+questions+1; {
			time.Sleep(quick / 10)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc(api.GetVersion.Path, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, "{}")
	})
	mux.HandleFunc("GET "+api.ListVMs.Path, func(w http.ResponseWriter, _ *http.Request) {
		wait()
		_, _ = io.WriteString(w, "[]")
	})
	mux.HandleFunc("POST "+api.ListVMs.Path, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"type":"progress","progress":{"phase":"boot"}}`+"\n")
		_ = http.NewResponseController(w).Flush()
		wait()
		_, _ = io.WriteString(w, `{"type":"result","result":{"name":"web"}}`+"\n")
	})
	serveHTTP(t, l, mux)
	ctx := WithoutStart(t.Context())
	if err := c.CheckAlive(ctx); err != nil {
		t.Error(err)
	}
	if _, err := Call(ctx, c, api.ListVMs, api.None{}); err != nil {
		t.Error(err)
	}
	if vm, err := Stream(ctx, c, api.CreateVMRoute, api.CreateVM{}, nil); err != nil || vm.Name != "web" {
		t.Errorf("%v, %v", vm.Name, err)
	}
}

// TestSilenceIsCancelled: whoever leaves isn't kept.
func TestSilenceIsCancelled(t *testing.T) {
	c, _ := listenOnly(t)
	c.silence = time.Hour
	ctx, cancel := context.WithTimeout(WithoutStart(t.Context()), quick)
	defer cancel()
	if _, err := Call(ctx, c, api.ListVMs, api.None{}); !errors.Is(err, api.ErrTimeout) {
		t.Errorf("got %v", err)
	}
}
