package serialmux

import (
	"context"
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

// How much of one stream may be on its way: enough to keep an emulated guest
// busy while the host is scheduled away. What a guest has sent and nobody has
// read is in the host's memory.
const (
	windowToGuest = 8 << 20
	windowToHost  = 2 << 20
)

// maxFrame bounds one yamux frame, so that a bulk transfer leaves room for the
// keystrokes of other streams.
const maxFrame = 128 << 10

// muxConfig sets yamux up without any timer of its own: a paused or snapshotted
// guest may be silent for as long as it likes, a dead VMM closes the socket,
// and a restarted guest sends a marker.
//
// window is how much the other side may send on one stream before it is read.
func muxConfig(log *slog.Logger, window uint32) *yamux.Config {
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

func (l muxLogger) Print(v ...any)            { l.say(func() string { return fmt.Sprint(v...) }) }
func (l muxLogger) Printf(f string, v ...any) { l.say(func() string { return fmt.Sprintf(f, v...) }) }
func (l muxLogger) Println(v ...any)          { l.say(func() string { return fmt.Sprintln(v...) }) }

// say spares the formatting of what isn't logged: a guest can cause a message
// with each frame.
func (l muxLogger) say(what func() string) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug(strings.TrimSpace(what()))
	}
}

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

// Read reads payload. Its first error stays, unless it is a deadline: yamux
// reads on after an error in the middle of a frame, and would swallow the bytes
// of the next session.
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
		switch {
		case c.closed.Load() && err == nil:
			err = net.ErrClosed
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.closed.Load():
			return n, err // gate has something to tell meanwhile
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

func (c *carrier) Write(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	return c.enc.write(p)
}

func (c *carrier) Close() error {
	c.closed.Store(true)
	c.enc.wake()
	c.unread()
	return nil
}

// Conn is one stream. yamux's Close is a half-close; Conn splits it into
// CloseWrite and a Close that behaves like that of a TCP connection.
type Conn struct {
	stream  *yamux.Stream
	session *yamux.Session
	enc     *encoder
	drain   func(*yamux.Stream) // reads a closed stream to its end
	addr    Addr

	closed   atomic.Bool
	reading  sync.Mutex // held while a Read is in yamux
	deadline sync.Mutex // orders SetReadDeadline, SetWriteDeadline and Close

	writeUntil atomic.Pointer[time.Time] // nil: no deadline
	wakeWriter *time.Timer               // rings at writeUntil; nil if there is none
}

// Addr is a port of the agent, as the address of a connection or listener.
type Addr uint32

// Network returns "serial".
func (Addr) Network() string { return "serial" }

func (a Addr) String() string { return fmt.Sprintf("serial:%d", uint32(a)) }

func newConn(stream *yamux.Stream, session *yamux.Session, enc *encoder, drain func(*yamux.Stream)) *Conn {
	return &Conn{stream: stream, session: session, enc: enc, drain: drain}
}

// Read reads payload. An end that is due to the loss of the session is
// io.ErrUnexpectedEOF, so that it can't be taken for the end of the data.
func (c *Conn) Read(p []byte) (int, error) {
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

// Write writes payload. It waits for a full line here, because yamux would wait
// there whatever happens to the stream.
func (c *Conn) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		if err := c.enc.await(c.cannotWrite); err != nil {
			return total, err
		}
		n, err := c.stream.Write(p[:min(len(p), maxFrame)])
		total += n
		if err != nil {
			return total, c.plainError(err)
		}
		p = p[n:]
	}
	return total, nil
}

// cannotWrite tells why it is of no use to wait for the line.
func (c *Conn) cannotWrite() error {
	until := c.writeUntil.Load()
	switch {
	case c.closed.Load():
		return net.ErrClosed
	case c.session.IsClosed():
		return yamux.ErrSessionShutdown
	case until != nil && !time.Now().Before(*until):
		return os.ErrDeadlineExceeded
	}
	return nil
}

// plainError turns yamux's errors into those that users of a net.Conn expect.
func (c *Conn) plainError(err error) error {
	switch {
	case errors.Is(err, yamux.ErrTimeout):
		return os.ErrDeadlineExceeded
	case errors.Is(err, yamux.ErrStreamClosed) && !c.session.IsClosed():
		return net.ErrClosed
	}
	return err
}

// CloseWrite ends the data in this direction; the other direction goes on.
func (c *Conn) CloseWrite() error { return c.stream.Close() }

// Close ends both directions. What was written before is still delivered, to a
// peer that takes it; the host's end gives a guest 15 s for that, and none at all
// while it waits for 64 other connections already. The peer's further data is
// thrown away, so that it is never stuck in a Write.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	err := c.stream.Close()
	c.deadline.Lock()
	_ = c.stream.SetReadDeadline(time.Unix(1, 0)) // wakes a pending Read; never fails
	c.setWriteDeadline(time.Time{})
	c.deadline.Unlock()
	guard.Go("drain a stream", func() {
		c.reading.Lock()
		defer c.reading.Unlock()
		c.drain(c.stream)
	})
	return err
}

// LocalAddr returns the agent's port, as RemoteAddr does.
func (c *Conn) LocalAddr() net.Addr { return c.addr }

// RemoteAddr returns the agent's port.
func (c *Conn) RemoteAddr() net.Addr { return c.addr }

// SetDeadline bounds reads and writes.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline bounds reads.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.deadline.Lock()
	defer c.deadline.Unlock()
	if c.closed.Load() {
		return net.ErrClosed
	}
	return c.stream.SetReadDeadline(t)
}

// SetWriteDeadline bounds writes, and their wait for the line.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.deadline.Lock()
	defer c.deadline.Unlock()
	if c.closed.Load() {
		return net.ErrClosed
	}
	c.setWriteDeadline(t)
	return c.stream.SetWriteDeadline(t)
}

// setWriteDeadline sets the deadline of waiting for the line. It is called with
// deadline locked.
func (c *Conn) setWriteDeadline(t time.Time) {
	if c.wakeWriter != nil {
		c.wakeWriter.Stop()
		c.wakeWriter = nil
	}
	c.writeUntil.Store(nil)
	if !t.IsZero() {
		c.writeUntil.Store(&t)
		c.wakeWriter = time.AfterFunc(time.Until(t), guard.Func("end the wait for a serial line", c.enc.wake))
	}
	c.enc.wake()
}
