package guest

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// deafConn is a connection whose other end takes nothing behind the request.
type deafConn struct {
	net.Conn
	asked   bool
	refused chan struct{} // closed when something more was sent
}

func (c *deafConn) Write(p []byte) (int, error) {
	if c.asked {
		close(c.refused)
		return 0, syscall.EPIPE
	}
	c.asked = true
	return c.Conn.Write(p)
}

func (c *deafConn) CloseWrite() error { return nil }

// extractFromDeaf makes an extract call of an agent that says go ahead, takes no
// more and goes on with answer.
func extractFromDeaf(answer func(net.Conn)) error {
	client := NewClient(func(context.Context, uint32) (Conn, error) {
		here, there := net.Pipe()
		c := &deafConn{Conn: here, refused: make(chan struct{})}
		go func() {
			defer there.Close()
			var r Request
			if ReadLine(bufio.NewReader(there), &r) != nil || WriteLine(there, Response{}) != nil {
				return
			}
			<-c.refused
			answer(there)
		}()
		return c, nil
	})
	return client.Extract(context.Background(), ExtractParams{Path: "/x"}, strings.NewReader("files"))
}

// An agent that stops to read has its reason heard, although that comes later
// than the failure of what is sent.
func TestVerdictBehindAFailedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := extractFromDeaf(func(conn net.Conn) {
			time.Sleep(time.Second)
			_ = WriteLine(conn, Response{Error: "the disk is full"})
		})
		var remote *RemoteError
		if !errors.As(err, &remote) || remote.Msg != "the disk is full" {
			t.Errorf("got %v", err)
		}
	})
}

// One that says nothing isn't waited for without an end.
func TestNoVerdictBehindAFailedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, answer := range map[string]func(net.Conn){
			"silent": func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) }, // until the client closes
			"gone":   func(net.Conn) {},
		} {
			start := time.Now()
			if err := extractFromDeaf(answer); !errors.Is(err, syscall.EPIPE) {
				t.Errorf("%s: got %v", name, err)
			}
			if took := time.Since(start); took > verdictTimeout {
				t.Errorf("%s: it took %v", name, took)
			}
		}
	})
}
