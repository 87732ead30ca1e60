package serialmux

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"banger/internal/guard"
)

// window is how much of one stream may be on its way: enough to keep an
// emulated guest busy while the host is scheduled away.
const window = 8 << 20

// maxFrame bounds one yamux frame, so that a bulk transfer leaves room for the
// keystrokes of other streams.
const maxFrame = 128 << 10

// muxConfig sets yamux up without any timer of its own: a paused or snapshotted
// guest may be silent for as long as it likes, a dead VMM closes the socket,
// and a restarted guest sends a marker.
func muxConfig(log *slog.Logger) *yamux.Config {
	return &yamux.Config{
		AcceptBacklog:          1024,
		KeepAliveInterval:      time.Hour, // must be set although it is off
		ConnectionWriteTimeout: time.Hour,
		MaxStreamWindowSize:    window,
		Logger:                 muxLogger{log},
	}
}

// muxLogger gives yamux's messages to slog; they are about the end of sessions,
// which is normal here.
type muxLogger struct{ log *slog.Logger }

func (l muxLogger) Print(v ...any)            { l.log.Debug(strings.TrimSpace(fmt.Sprint(v...))) }
func (l muxLogger) Printf(f string, v ...any) { l.log.Debug(strings.TrimSpace(fmt.Sprintf(f, v...))) }
func (l muxLogger) Println(v ...any)          { l.log.Debug(strings.TrimSpace(fmt.Sprintln(v...))) }

// carrier is the line as one yamux session sees it. Closing it leaves the line
// itself open for the next session.
type carrier struct {
	dec    *decoder
	enc    *encoder
	unread func() // interrupts a Read of the line that is under way
	own    nonce  // repeated markers with this nonce are skipped before payload

	closed atomic.Bool
	data   bool  // payload has been read; used by the reader only
	err    error // why reading ended; others may read it once the session has closed
}

// Read reads payload. Its first error stays: yamux reads on after an error in
// the middle of a frame, and would swallow the bytes of the next session.
func (c *carrier) Read(p []byte) (n int, err error) {
	// yamux calls this on a goroutine of its own.
	panicked := guard.Run("decode a serial line", func() error {
		n, err = c.read(p)
		return nil
	})
	if panicked != nil {
		c.err = panicked
		return 0, errors.Join(net.ErrClosed, panicked)
	}
	return n, err
}

func (c *carrier) read(p []byte) (int, error) {
	for c.err == nil {
		n, err := c.dec.Read(p)
		if c.closed.Load() && err == nil {
			err = net.ErrClosed
		}
		var marker *markerError
		if errors.As(err, &marker) && marker.nonce == c.own && !c.data {
			continue // an answer to a marker that was sent twice
		}
		c.data = c.data || n > 0
		c.err = err
		if n > 0 || err == nil {
			return n, nil
		}
	}
	return 0, errors.Join(net.ErrClosed, c.err)
}

func (c *carrier) Write(p []byte) (int, error) { return c.enc.write(p, c.closed.Load) }

func (c *carrier) Close() error {
	c.closed.Store(true)
	c.enc.wake()
	c.unread()
	return nil
}

// conn is one stream. yamux's Close is a half-close; conn splits it into
// CloseWrite and a Close that behaves like that of a TCP connection.
type conn struct {
	stream  *yamux.Stream
	session *yamux.Session
	addr    Addr

	closed   atomic.Bool
	reading  sync.Mutex // held while a Read is in yamux
	deadline sync.Mutex // orders SetReadDeadline and Close
}

// Addr is a port of the agent, as the address of a connection or listener.
type Addr uint32

// Network returns "serial".
func (Addr) Network() string { return "serial" }

func (a Addr) String() string { return fmt.Sprintf("serial:%d", uint32(a)) }

func newConn(stream *yamux.Stream, session *yamux.Session, port uint32) *conn {
	return &conn{stream: stream, session: session, addr: Addr(port)}
}

// Read reads payload. An end that is due to the loss of the session is
// io.ErrUnexpectedEOF, so that it can't be taken for the end of the data.
func (c *conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.stream.Read(p)
	switch {
	case err == nil:
		return n, nil
	case c.closed.Load():
		return n, net.ErrClosed
	case errors.Is(err, io.EOF) && c.session.IsClosed():
		return n, io.ErrUnexpectedEOF
	}
	return n, c.plainError(err)
}

func (c *conn) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		n, err := c.stream.Write(p[:min(len(p), maxFrame)])
		total += n
		if err != nil {
			return total, c.plainError(err)
		}
		p = p[n:]
	}
	return total, nil
}

// plainError turns yamux's errors into those that users of a net.Conn expect.
func (c *conn) plainError(err error) error {
	switch {
	case errors.Is(err, yamux.ErrTimeout):
		return os.ErrDeadlineExceeded
	case errors.Is(err, yamux.ErrStreamClosed) && !c.session.IsClosed():
		return net.ErrClosed
	}
	return err
}

// CloseWrite ends the data in this direction; the other direction goes on.
func (c *conn) CloseWrite() error { return c.stream.Close() }

// Close ends both directions. What was written before is still delivered. The
// peer's further data is thrown away, so that it is never stuck in a Write.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	err := c.stream.Close()
	c.deadline.Lock()
	_ = c.stream.SetReadDeadline(time.Unix(1, 0)) // wakes a pending Read; never fails
	c.deadline.Unlock()
	guard.Go("drain a stream", c.drain)
	return err
}

// drain reads until the peer closes its side or the session ends.
func (c *conn) drain() {
	c.reading.Lock()
	defer c.reading.Unlock()
	_ = c.stream.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, c.stream)
}

func (c *conn) LocalAddr() net.Addr  { return c.addr }
func (c *conn) RemoteAddr() net.Addr { return c.addr }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.deadline.Lock()
	defer c.deadline.Unlock()
	if c.closed.Load() {
		return net.ErrClosed
	}
	return c.stream.SetReadDeadline(t)
}

func (c *conn) SetWriteDeadline(t time.Time) error { return c.stream.SetWriteDeadline(t) }
