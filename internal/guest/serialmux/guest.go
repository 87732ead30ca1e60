package serialmux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"banger/internal/guard"
)

// The answers to a stream's port number.
const (
	replyOK      = 0
	replyRefused = 1
)

// helloTimeout is how long a new stream may take to name its port.
const helloTimeout = time.Minute

// Port is the guest's end of a line. Read returns io.EOF once each time the
// host goes away; the next Read waits until it is back. Deadlines interrupt
// calls that are under way.
type Port interface {
	io.ReadWriteCloser
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// Guest is the guest's end of a line, which serves one host after the other.
type Guest struct {
	port Port
	log  *slog.Logger
	done chan struct{} // closed when the line has ended

	mu        sync.Mutex
	closed    bool
	refuse    bool // streams to ports without a listener don't wait for one
	listeners map[uint32]*listener
	changed   chan struct{} // closed and replaced when listeners or refuse change
}

// Listen starts to serve a line. It asks a host that is in the middle of a
// session with a predecessor to start over. Streams to ports that nothing
// listens on wait until something does, until Refuse is called.
func Listen(port Port, log *slog.Logger) *Guest {
	g := &Guest{
		port: port, log: log, done: make(chan struct{}),
		listeners: map[uint32]*listener{}, changed: make(chan struct{}),
	}
	guard.Go("serve a serial line", g.run)
	return g
}

// Close closes the line, its streams and its listeners.
func (g *Guest) Close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	err := g.port.Close()
	<-g.done
	return err
}

// Done is closed when the line has failed for good or was closed.
func (g *Guest) Done() <-chan struct{} { return g.done }

// run serves one session per marker until the port fails for good.
func (g *Guest) run() {
	defer close(g.done)
	defer g.closeListeners()
	dec := newDecoder(g.port)
	enc := newEncoder(g.port)
	enc.reset(resyncPlease)
	got, err := dec.nextMarker()
	g.retire(enc)
	for !g.isClosed() && (err == nil || errors.Is(err, io.EOF)) {
		if err == nil {
			enc = newEncoder(g.port)
			enc.reset(got)
			err = g.session(dec, enc)
			g.retire(enc)
		}
		var marker *markerError
		if errors.As(err, &marker) {
			got, err = marker.nonce, nil
		} else { // the host left, or the session broke: both begin anew with a marker
			got, err = dec.nextMarker()
		}
	}
	if !g.isClosed() {
		g.log.Error("serial line failed", "err", err)
	}
}

// retire ends an encoder. What it still has to write is of no use to anybody,
// and may be waiting for a host that has gone.
func (g *Guest) retire(enc *encoder) {
	_ = g.port.SetWriteDeadline(time.Unix(1, 0))
	enc.stop()
	<-enc.done
	_ = g.port.SetWriteDeadline(time.Time{})
}

func (g *Guest) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// session serves the streams of one yamux session and returns why reading the
// line ended.
func (g *Guest) session(dec *decoder, enc *encoder) error {
	c := &carrier{dec: dec, enc: enc, unread: func() { _ = g.port.SetReadDeadline(time.Unix(1, 0)) }}
	session, err := yamux.Server(c, muxConfig(g.log, windowToGuest))
	if err != nil {
		return fmt.Errorf("start session with host: %w", err)
	}
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			break
		}
		guard.Go("accept a stream", func() { g.hello(newConn(stream, session, enc, drainWhole)) })
	}
	_ = session.Close() // waits for its goroutines; always nil
	_ = g.port.SetReadDeadline(time.Time{})
	g.log.Debug("session with host ended", "err", c.err)
	return c.err
}

// drainWhole reads a closed stream until the host closes its side or the session
// ends. The host is trusted to.
func drainWhole(stream *yamux.Stream) {
	_ = stream.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, stream)
}

// hello gives a new stream to the listener of the port that it names.
func (g *Guest) hello(c *Conn) {
	var port [4]byte
	_ = c.SetReadDeadline(time.Now().Add(helloTimeout))
	if _, err := io.ReadFull(c, port[:]); err != nil {
		_ = c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	c.addr = Addr(binary.BigEndian.Uint32(port[:]))
	l := g.await(uint32(c.addr), c.session)
	reply := byte(replyRefused)
	if l != nil {
		reply = replyOK
	}
	if _, err := c.Write([]byte{reply}); err != nil || l == nil || !l.deliver(c) {
		_ = c.Close()
	}
}

// await returns the listener of a port, nil if there is none and none is to
// come.
func (g *Guest) await(port uint32, session *yamux.Session) *listener {
	for {
		g.mu.Lock()
		l, refuse, changed := g.listeners[port], g.refuse, g.changed
		g.mu.Unlock()
		if l != nil || refuse {
			return l
		}
		select {
		case <-changed:
		case <-session.CloseChan():
			return nil
		}
	}
}

// Refuse says that all listeners are there: from now on streams to other ports
// are refused.
func (g *Guest) Refuse() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = true
	g.notify()
}

// notify wakes streams that wait. It is called with mu locked.
func (g *Guest) notify() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// Port returns a listener for one port. Only one may be open per port.
func (g *Guest) Port(port uint32) (net.Listener, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, taken := g.listeners[port]; taken {
		return nil, fmt.Errorf("listen on serial port %d: it is taken", port)
	}
	l := &listener{guest: g, port: port, conns: make(chan net.Conn), done: make(chan struct{})}
	g.listeners[port] = l
	g.notify()
	return l, nil
}

func (g *Guest) closeListeners() {
	g.mu.Lock()
	open := make([]*listener, 0, len(g.listeners))
	for _, l := range g.listeners {
		open = append(open, l)
	}
	g.mu.Unlock()
	for _, l := range open {
		_ = l.Close()
	}
}

// listener is one port of a Guest.
type listener struct {
	guest *Guest
	port  uint32
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

// deliver waits until c is accepted; false means that the listener is closed.
func (l *listener) deliver(c net.Conn) bool {
	select {
	case l.conns <- c:
		return true
	case <-l.done:
		return false
	}
}

// Accept waits for a connection to the port.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close stops accepting; streams to the port are like those to any port without
// a listener from now on.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.guest.mu.Lock()
		delete(l.guest.listeners, l.port)
		l.guest.mu.Unlock()
		close(l.done)
	})
	return nil
}

// Addr returns the port as an Addr.
func (l *listener) Addr() net.Addr { return Addr(l.port) }
