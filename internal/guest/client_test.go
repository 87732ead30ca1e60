package guest

import (
	"bufio"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serveCalls answers calls on a Unix socket by a function, which gets the
// connection after the request has been read.
func serveCalls(t *testing.T, answer func(Request, net.Conn)) *Client {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				var r Request
				if ReadLine(bufio.NewReader(conn), &r) == nil {
					answer(r, conn)
				}
			}()
		}
	}()
	return NewClient(func(ctx context.Context, port uint32) (net.Conn, error) {
		if port != PortControl {
			t.Errorf("a call went to port %d", port)
		}
		var d net.Dialer
		return d.DialContext(ctx, "unix", l.Addr().String())
	})
}

func TestCallsEndWithTheirContext(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	c := serveCalls(t, func(Request, net.Conn) { <-release })
	for name, call := range map[string]func(context.Context) error{
		"health":   func(ctx context.Context) error { _, err := c.Health(ctx); return err },
		"boot":     func(ctx context.Context) error { _, err := c.Boot(ctx, BootConfig{}); return err },
		"ready":    func(ctx context.Context) error { _, err := c.Ready(ctx); return err },
		"extract":  func(ctx context.Context) error { return c.Extract(ctx, "/x", strings.NewReader("")) },
		"shutdown": func(ctx context.Context) error { return c.Shutdown(ctx, ShutdownParams{}) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s of a silent agent: %v", name, err)
		}
		cancel()
	}
}

func TestReadyTriesLostConnectionsAgain(t *testing.T) {
	var calls atomic.Int32
	c := serveCalls(t, func(_ Request, conn net.Conn) {
		if calls.Add(1) > 2 { // before, the connection ends without an answer
			_ = WriteLine(conn, Response{Result: []byte(`{"state":"running"}`)})
		}
	})
	if r, err := c.Ready(t.Context()); err != nil || r.State != "running" {
		t.Errorf("got %+v, %v", r, err)
	}
	if got := calls.Load(); got != 3 {
		t.Errorf("%d calls were made", got)
	}
}

func TestOtherCallsAreMadeOnce(t *testing.T) {
	var calls atomic.Int32
	c := serveCalls(t, func(Request, net.Conn) { calls.Add(1) })
	if _, err := c.Boot(t.Context(), BootConfig{}); err == nil {
		t.Error("a boot without an answer succeeded")
	}
	if got := calls.Load(); got != 1 {
		t.Errorf("%d calls were made", got)
	}
}

func TestRemoteErrorsAreTheAgentsWords(t *testing.T) {
	c := serveCalls(t, func(_ Request, conn net.Conn) { _ = WriteLine(conn, Response{Error: "no such disk"}) })
	var remote *RemoteError
	if _, err := c.Ready(t.Context()); !errors.As(err, &remote) || err.Error() != "no such disk" || remote.Call != CallReady {
		t.Errorf("got %v", err)
	}
}

func TestLinesMayBeLong(t *testing.T) {
	data := make([]byte, 1<<20)
	c := serveCalls(t, func(r Request, conn net.Conn) {
		_ = WriteLine(conn, Response{Result: []byte(`{"init":"` + string(r.Params[:0]) + strings.Repeat("x", len(r.Params)) + `"}`)})
	})
	r, err := c.Boot(t.Context(), BootConfig{Files: []File{{Path: "/f", Data: data}}})
	if err != nil || len(r.Init) < len(data) {
		t.Errorf("got %d bytes back, %v", len(r.Init), err)
	}
}
