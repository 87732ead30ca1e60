package rootless

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"banger/internal/paths"
)

func TestDialHost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	layout := paths.Layout{Runtime: t.TempDir()}
	if _, err := DialHost(t.Context(), layout, 7); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a keeper: %v", err)
	}
	serve := func() context.CancelFunc {
		ctx, cancel := context.WithCancel(t.Context())
		err := serveHostDial(ctx, layout, func(ctx context.Context, port uint16) (*net.TCPConn, error) {
			if port != 7 {
				return nil, errors.New("nobody is there")
			}
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", l.Addr().String())
			if err != nil {
				return nil, err
			}
			return conn.(*net.TCPConn), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return cancel
	}
	first := serve()
	second := serve() // another keeper takes its place, and the first one ends
	first()
	defer second()
	for range 3 {
		conn, err := DialHost(t.Context(), layout, 7)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(theirs); err != nil || string(got) != "hello" {
			t.Errorf("got %q, %v", got, err)
		}
		_ = theirs.Close()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after the other end's: %v", err)
		}
		_ = conn.Close()
	}
	if _, err := DialHost(t.Context(), layout, 8); err == nil || !strings.Contains(err.Error(), "nobody is there") {
		t.Errorf("a port that nobody serves: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := DialHost(ctx, layout, 7); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
