// Package conntest accepts connections for tests. It is for tests only.
package conntest

import (
	"context"
	"net"
	"path/filepath"
	"testing"
)

// Serve has handle serve each connection to l, in a goroutine of its own, until
// the test ends.
func Serve(t testing.TB, l net.Listener, handle func(net.Conn)) {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go handle(conn)
		}
	}()
}

// ServeUnix is Serve at a socket of the test's own. It returns what connects to
// it.
func ServeUnix(t testing.TB, handle func(net.Conn)) func(context.Context) (*net.UnixConn, error) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	Serve(t, l, handle)
	return func(ctx context.Context) (*net.UnixConn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", l.Addr().String())
		if err != nil {
			return nil, err
		}
		return conn.(*net.UnixConn), nil
	}
}
