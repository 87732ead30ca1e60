package serialmux

import (
	"context"
	"crypto/rand"
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

const (
	// markerInterval is how often an unanswered marker is repeated. It covers
	// a guest that died between reading a marker and answering it.
	markerInterval = 2 * time.Second
	// redialFirst and redialLast bound the pause between attempts to connect,
	// and between those to open a stream. A session of steadySession is none
	// that the guest breaks at once.
	redialFirst   = 20 * time.Millisecond
	redialLast    = time.Second
	steadySession = 10 * time.Second
	// stallTime is how long a guest may take nothing of what is written to its
	// line. An emulated one on a busy host is slow, but no line of a guest whose
	// agent runs has stood still for this long.
	stallTime = 2 * time.Minute
	// maxOpening is how many streams may wait for the guest's answer at once;
	// yamux's limit is higher, and it doesn't heed contexts.
	maxOpening = 256
)

// ErrRefused says that nothing in the guest listens on the port.
var ErrRefused = errors.New("the guest's agent doesn't listen on this port")

// Host is the host's end of a line. It keeps a session with the guest whenever
// the guest is there.
type Host struct {
	path      string
	log       *slog.Logger
	drainTime time.Duration
	opening   chan struct{} // a place for each stream that waits for the guest's answer
	cancel    context.CancelFunc
	done      chan struct{} // closed when the background work has ended
	complain  sync.Once     // about a guest that doesn't keep to the protocol

	mu      sync.Mutex
	session *hostSession  // nil while there is none
	changed chan struct{} // closed and replaced when session changes
}

// Dial connects to the Unix socket of a VMM's serial line. It doesn't wait for
// the guest. ctx bounds the connecting only.
func Dial(ctx context.Context, unixSocketPath string, log *slog.Logger) (*Host, error) {
	return dial(ctx, unixSocketPath, log, drainTime)
}

func dial(ctx context.Context, unixSocketPath string, log *slog.Logger, drainTime time.Duration) (*Host, error) {
	line, err := dialLine(ctx, unixSocketPath)
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.Background())
	h := &Host{
		path: unixSocketPath, log: log, drainTime: drainTime, opening: make(chan struct{}, maxOpening),
		cancel: cancel, done: make(chan struct{}), changed: make(chan struct{}),
	}
	guard.Go("keep a guest's serial line", func() { h.run(run, line) })
	return h, nil
}

func dialLine(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	line, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to the guest's serial line: %w", err)
	}
	return line, nil
}

// Close ends the session and all its streams.
func (h *Host) Close() error {
	h.cancel()
	<-h.done
	return nil
}

// run keeps a session until ctx ends.
func (h *Host) run(ctx context.Context, line net.Conn) {
	defer close(h.done)
	pause := redialFirst
	for ctx.Err() == nil {
		if line == nil {
			var err error
			if line, err = dialLine(ctx, h.path); err != nil {
				h.log.Debug("redial guest", "err", err)
			}
		}
		if line != nil {
			began := time.Now()
			err := guard.Run("serve a guest's serial line", func() error { return h.serve(ctx, line) })
			line = nil
			h.log.Debug("session with guest ended", "err", err)
			if errors.Is(err, errForeign) {
				h.complain.Do(func() { h.log.Warn("the guest has broken its line", "err", err) })
			}
			if time.Since(began) >= steadySession {
				pause = redialFirst
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause = min(2*pause, redialLast)
		}
	}
	if line != nil {
		_ = line.Close()
	}
}

// patientWriter writes to a line for as long as the guest takes something. A
// line that stands still is closed, which ends its session.
type patientWriter struct{ line net.Conn }

func (w patientWriter) Write(p []byte) (int, error) {
	total := 0
	for total < len(p) {
		if err := w.line.SetWriteDeadline(time.Now().Add(stallTime)); err != nil {
			return total, err
		}
		n, err := w.line.Write(p[total:min(len(p), total+maxFrame)])
		total += n
		if err != nil {
			_ = w.line.Close()
			return total, err
		}
	}
	return total, nil
}

// serve runs a session on a connected line and returns why it ended.
func (h *Host) serve(ctx context.Context, line net.Conn) error {
	defer line.Close()
	defer context.AfterFunc(ctx, guard.Func("end a connection", func() { _ = line.Close() }))()

	enc := newEncoder(patientWriter{line})
	defer func() {
		_ = line.Close()
		enc.stop()
		<-enc.done
	}()
	dec := newDecoder(line)
	own, err := synchronise(dec, enc)
	if err != nil {
		return err
	}
	c := &carrier{dec: dec, enc: enc, own: own, unread: func() { _ = line.Close() }}
	g := newGate(c,
		func() { _ = line.SetReadDeadline(time.Unix(1, 0)) },
		func() { _ = line.SetReadDeadline(time.Time{}) })
	session, err := yamux.Client(g, muxConfig(h.log, windowToHost))
	if err != nil {
		return fmt.Errorf("start session with guest: %w", err)
	}
	h.set(&hostSession{session, enc, func(s *yamux.Stream) { g.drain(s, h.drainTime) }})
	<-session.CloseChan()
	h.set(nil)
	_ = session.Close() // waits for its goroutines; always nil
	return g.err
}

// hostSession is a session and what its connections are made of.
type hostSession struct {
	*yamux.Session
	enc   *encoder
	drain func(*yamux.Stream)
}

// synchronise sends reset markers until the guest has answered one.
func synchronise(dec *decoder, enc *encoder) (nonce, error) {
	var own nonce
	if _, err := rand.Read(own[:]); err != nil {
		return own, fmt.Errorf("make a nonce: %w", err)
	}
	enc.reset(own)
	repeat := time.NewTicker(markerInterval)
	answered := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(guard.Func("repeat a marker", func() {
		defer repeat.Stop()
		for {
			select {
			case <-repeat.C:
				enc.reset(own)
			case <-answered:
				return
			}
		}
	}))
	// The sender must have ended before the session begins: a marker between
	// its frames would end it.
	defer sender.Wait()
	defer close(answered)
	for {
		got, err := dec.nextMarker()
		switch {
		case err != nil:
			return own, fmt.Errorf("synchronise with the guest: %w", err)
		case got == own:
			return own, nil
		case got == resyncPlease:
			enc.reset(own)
		}
	}
}

func (h *Host) set(s *hostSession) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.session = s
	close(h.changed)
	h.changed = make(chan struct{})
}

// Open connects to a port of the guest's agent. It waits for a guest that
// isn't there yet and tries again when the session is lost meanwhile, until
// ctx ends. Nothing listening there is ErrRefused.
func (h *Host) Open(ctx context.Context, port uint32) (*Conn, error) {
	select {
	case h.opening <- struct{}{}:
		defer func() { <-h.opening }()
	case <-ctx.Done():
		return nil, fmt.Errorf("connect to port %d of the guest: %w", port, context.Cause(ctx))
	}
	for pause := redialFirst; ; pause = min(2*pause, redialLast) {
		session, err := h.await(ctx)
		if err != nil {
			return nil, err
		}
		c, err := session.open(ctx, port)
		switch {
		case err == nil:
			return c, nil
		case errors.Is(err, ErrRefused):
			return nil, err
		case ctx.Err() != nil:
			return nil, fmt.Errorf("connect to port %d of the guest: %w", port, context.Cause(ctx))
		}
		h.log.Debug("open stream again", "port", port, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// await returns the current session or waits for one.
func (h *Host) await(ctx context.Context) (*hostSession, error) {
	for {
		h.mu.Lock()
		session, changed := h.session, h.changed
		h.mu.Unlock()
		if session != nil && !session.IsClosed() {
			return session, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the guest's agent: %w", context.Cause(ctx))
		case <-h.done:
			return nil, net.ErrClosed
		}
	}
}

// open asks for a port on a new stream: 4 bytes big-endian, answered by one
// byte.
func (s *hostSession) open(ctx context.Context, port uint32) (*Conn, error) {
	stream, err := s.OpenStream()
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	c := newConn(stream, s.Session, s.enc, s.drain)
	c.addr = Addr(port)
	stop := context.AfterFunc(ctx, guard.Func("end a connection", func() { _ = c.Close() }))
	var reply [1]byte
	if _, err = c.Write(binary.BigEndian.AppendUint32(nil, port)); err == nil {
		_, err = io.ReadFull(c, reply[:])
	}
	if !stop() {
		err = context.Cause(ctx)
	}
	if err == nil && reply[0] != replyOK {
		err = fmt.Errorf("port %d: %w", port, ErrRefused)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}
