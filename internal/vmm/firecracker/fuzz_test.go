package firecracker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger/internal/guest"
)

// said is the other end of a connection that says what it was going to say
// anyway.
type said struct {
	in  io.Reader
	out bytes.Buffer
}

func (s *said) Read(p []byte) (int, error)     { return s.in.Read(p) }
func (s *said) Write(p []byte) (int, error)    { return s.out.Write(p) }
func (*said) Close() error                     { return nil }
func (*said) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (*said) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (*said) SetDeadline(time.Time) error      { return nil }
func (*said) SetReadDeadline(time.Time) error  { return nil }
func (*said) SetWriteDeadline(time.Time) error { return nil }

// maxError is what an error may have beside what was said.
const maxError = guest.MaxText + 200

// A handshake takes the answer's line and nothing behind it, whatever it is.
func FuzzHandshake(f *testing.F) {
	for _, answer := range []string{"OK 1073741824\nSSH-2.0", "OK 1\n", "OK \n", "OK", "", "\n", "NO\n", strings.Repeat("x", 64)} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		s := &said{in: bytes.NewReader(answer)}
		err := handshake(s, 22)
		if s.out.String() != "CONNECT 22\n" {
			t.Errorf("the host said %q", s.out.String())
		}
		line, rest, found := bytes.Cut(answer, []byte("\n"))
		if good := found && len(line) < maxAnswer && bytes.HasPrefix(line, []byte("OK ")); good != (err == nil) {
			t.Fatalf("%q: %v", answer, err)
		}
		if err != nil {
			if len(err.Error()) > maxError {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if left, err := io.ReadAll(s); err != nil || !bytes.Equal(left, rest) {
			t.Errorf("%q is left behind the line, want %q (%v)", left, rest, err)
		}
	})
}

// dialTo returns a dialer to who says reply.
func dialTo(reply []byte) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) { return &said{in: bytes.NewReader(reply)}, nil }
}

// FuzzReplies takes whatever an API socket says for an answer. The two requests
// have results of their own.
func FuzzReplies(f *testing.F) {
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for _, reply := range []string{
		head + "Content-Length: 54\r\n\r\n" + `{"id":"x","state":"Not started","firecracker_version":"1.16.1"}`,
		head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		head + "\r\n{}",
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 23\r\n\r\n" + `{"fault_message":"no"}`,
		"HTTP/1.1 400 Bad Request\r\n\r\n" + strings.Repeat("x", 4096),
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
		"HTTP/9", "",
	} {
		f.Add([]byte(reply))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		dial := func() *client {
			c := newClient("")
			c.transport.DialContext = dialTo(reply)
			return c
		}
		c := dial()
		_, err := c.version(t.Context())
		c.close()
		c = dial()
		err = errors.Join(err, c.do(t.Context(), request{http.MethodPut, "/actions", instanceAction{actionStart}}, nil))
		c.close()
		if err != nil && len(err.Error()) > 2*maxError {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}

// An answer without an end is given up.
func TestEndlessReplies(t *testing.T) {
	for name, head := range map[string]string{
		"body":       "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n",
		"fault":      "HTTP/1.1 400 Bad Request\r\n\r\n" + `{"fault_message":"`,
		"header":     "HTTP/1.1 200 OK\r\nX: ",
		"status":     "HTTP/1.1 ",
		"chunks":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
		"not HTTP":   "",
		"no content": "HTTP/1.1 204 No Content\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, err := net.Listen("unix", filepath.Join(dir, apiSocket))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			sent := make(chan int, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				total, _ := io.WriteString(conn, head)
				for {
					n, err := conn.Write(bytes.Repeat([]byte("x"), 1<<16))
					if total += n; err != nil || total > 64<<20 {
						sent <- total
						return
					}
				}
			}()
			c := newClient(dir)
			var info versionInfo
			err = c.do(t.Context(), request{http.MethodGet, "/version", nil}, &info)
			c.close()
			if err == nil || len(err.Error()) > maxError {
				t.Errorf("an error of %d bytes: %.100v", len(err.Error()), err)
			}
			if total := <-sent; total > 4<<20 { // more than sockets hold
				t.Errorf("%d bytes were read", total)
			}
		})
	}
}
