package guest

import (
	"bufio"
	"context"
	"errors"
	"io"
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
		"archive":  func(ctx context.Context) error { return c.Archive(ctx, io.Discard) },
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

func TestArchive(t *testing.T) {
	big := strings.Repeat("x", 3*maxChunk+1)
	for name, test := range map[string]struct {
		answer func(net.Conn)
		want   string // in the error; "" is success
	}{
		"whole": {func(conn net.Conn) {
			chunks := NewChunkWriter(conn)
			_, _ = chunks.Write([]byte(big))
			_ = chunks.Close()
			_ = WriteLine(conn, Response{})
		}, ""},
		"failed": {func(conn net.Conn) {
			chunks := NewChunkWriter(conn)
			_, _ = chunks.Write([]byte(big))
			_ = chunks.Close()
			_ = WriteLine(conn, Response{Error: "a bad sector"})
		}, "a bad sector"},
		"no verdict":            {func(conn net.Conn) { _ = NewChunkWriter(conn).Close() }, "unexpected EOF"},
		"cut within a chunk":    {func(conn net.Conn) { _, _ = conn.Write([]byte{0, 0, 0, 9, 'x'}) }, "unexpected EOF"},
		"cut between chunks":    {func(conn net.Conn) { _, _ = NewChunkWriter(conn).Write([]byte("x")) }, "unexpected EOF"},
		"a chunk out of bounds": {func(conn net.Conn) { _, _ = conn.Write([]byte{255, 0, 0, 0}) }, "a chunk of"},
	} {
		t.Run(name, func(t *testing.T) {
			c := serveCalls(t, func(_ Request, conn net.Conn) {
				_ = WriteLine(conn, Response{})
				test.answer(conn)
			})
			var got strings.Builder
			err := c.Archive(t.Context(), &got)
			if test.want == "" && (err != nil || got.String() != big) {
				t.Errorf("got %d bytes, %v", got.Len(), err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v", err)
			}
		})
	}
	refuses := serveCalls(t, func(_ Request, conn net.Conn) { _ = WriteLine(conn, Response{Error: "not now"}) })
	if err := refuses.Archive(t.Context(), io.Discard); err == nil || err.Error() != "not now" {
		t.Errorf("a refusal: %v", err)
	}
}
