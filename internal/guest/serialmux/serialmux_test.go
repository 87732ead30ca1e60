package serialmux

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
	"go.uber.org/goleak"

	"banger/internal/conntest"
	"banger/internal/guard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// vmm stands in for a VMM: a listening socket whose single connection is the
// host's end of the guest's port.
type vmm struct {
	path string
	ln   net.Listener

	mu   sync.Mutex
	cond *sync.Cond
	line net.Conn // to the host; nil while disconnected
	dead bool
}

func newVMM(t *testing.T) *vmm {
	v := &vmm{path: filepath.Join(t.TempDir(), "s")}
	v.cond = sync.NewCond(&v.mu)
	var err error
	if v.ln, err = net.Listen("unix", v.path); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := v.ln.Accept()
			if err != nil {
				return
			}
			v.mu.Lock()
			for v.line != nil && !v.dead {
				v.cond.Wait()
			}
			v.line = c
			v.cond.Broadcast()
			v.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = v.ln.Close()
		v.mu.Lock()
		defer v.mu.Unlock()
		v.dead = true
		if v.line != nil {
			_ = v.line.Close()
		}
		v.cond.Broadcast()
	})
	return v
}

// port is a guest's virtio-serial port on a vmm. It may be reopened.
type port struct {
	*vmm
	mu     sync.Mutex
	closed bool
}

func (p *port) conn(wait bool) (net.Conn, error) {
	p.vmm.mu.Lock()
	defer p.vmm.mu.Unlock()
	for wait && p.line == nil && !p.dead && !p.isClosed() {
		p.cond.Wait()
	}
	if p.isClosed() || p.dead || p.line == nil {
		return nil, net.ErrClosed
	}
	return p.line, nil
}

func (p *port) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *port) Read(b []byte) (int, error) {
	c, err := p.conn(true)
	if err != nil {
		return 0, err
	}
	n, err := c.Read(b[:min(len(b), 4096)])
	if p.isClosed() {
		return 0, net.ErrClosed
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		p.vmm.mu.Lock()
		p.line = nil
		p.cond.Broadcast()
		p.vmm.mu.Unlock()
		_ = c.Close()
		err = io.EOF
	}
	return n, err
}

func (p *port) Write(b []byte) (int, error) {
	c, err := p.conn(false)
	if err != nil {
		return 0, err
	}
	return c.Write(b)
}

// Close leaves the line to the next opener.
func (p *port) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.SetReadDeadline(time.Unix(1, 0))
	p.vmm.mu.Lock()
	p.cond.Broadcast()
	p.vmm.mu.Unlock()
	return nil
}

func (p *port) SetReadDeadline(t time.Time) error {
	if c, err := p.vmmLine(); err == nil {
		return c.SetReadDeadline(t)
	}
	return nil
}

func (p *port) SetWriteDeadline(t time.Time) error {
	if c, err := p.vmmLine(); err == nil {
		return c.SetWriteDeadline(t)
	}
	return nil
}

func (p *port) vmmLine() (net.Conn, error) {
	p.vmm.mu.Lock()
	defer p.vmm.mu.Unlock()
	if p.line == nil {
		return nil, net.ErrClosed
	}
	return p.line, nil
}

const echoPort = 7

// startGuest serves an echo on echoPort.
func startGuest(t *testing.T, v *vmm) *Guest {
	t.Helper()
	p := &port{vmm: v}
	_ = p.SetReadDeadline(time.Time{})
	g := Listen(p, slog.New(slog.DiscardHandler))
	l, err := g.Port(echoPort)
	if err != nil {
		t.Fatal(err)
	}
	conntest.Serve(t, l, func(c net.Conn) {
		defer c.Close()
		if _, err := io.Copy(c, c); err == nil {
			_ = c.(*Conn).CloseWrite()
		}
	})
	t.Cleanup(func() { _ = g.Close() })
	return g
}

func startHost(t *testing.T, v *vmm) *Host {
	t.Helper()
	h, err := Dial(t.Context(), v.path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// payload is one mebibyte that is made once, since that takes a while.
var payload = sync.OnceValue(func() []byte { return hostile(1 << 20) })

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// roundTrip sends payload to the echo and checks what returns, using a
// half-close to end it.
func roundTrip(ctx context.Context, h *Host, payload []byte) error {
	c, err := h.Open(ctx, echoPort)
	if err != nil {
		return err
	}
	defer c.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(payload)
		if err == nil {
			err = c.CloseWrite()
		}
		sent <- err
	}()
	sum := sha256.New()
	n, err := io.Copy(sum, c)
	if err = errors.Join(<-sent, err); err != nil {
		return err
	}
	if want := sha256.Sum256(payload); string(want[:]) != string(sum.Sum(nil)) {
		return fmt.Errorf("%d bytes were sent and %d different ones returned", len(payload), n)
	}
	return nil
}

func TestBulkWithHalfClose(t *testing.T) {
	v := newVMM(t)
	startGuest(t, v)
	h := startHost(t, v)
	if err := roundTrip(deadline(t), h, bytes.Repeat(payload(), 64)); err != nil {
		t.Fatal(err)
	}
}

func TestManyStreams(t *testing.T) {
	v := newVMM(t)
	startGuest(t, v)
	h := startHost(t, v)
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			if err := roundTrip(deadline(t), h, payload()[:i*300]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestHostWaitsForGuest(t *testing.T) {
	v := newVMM(t)
	h := startHost(t, v)
	result := make(chan error)
	go func() { result <- roundTrip(deadline(t), h, []byte("hello")) }()
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := h.Open(short, echoPort); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("open without a guest: %v", err)
	}
	startGuest(t, v)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

func TestRefused(t *testing.T) {
	v := newVMM(t)
	g := startGuest(t, v)
	h := startHost(t, v)
	early := make(chan error)
	go func() {
		_, err := h.Open(deadline(t), 99)
		early <- err
	}()
	opened := make(chan error)
	go func() {
		_, err := h.Open(deadline(t), 100)
		opened <- err
	}()
	if _, err := g.Port(100); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("open a port that is listened on later: %v", err)
	}
	g.Refuse()
	if err := <-early; !errors.Is(err, ErrRefused) {
		t.Errorf("a stream that waited got %v", err)
	}
	if _, err := h.Open(deadline(t), 99); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
}

// cutOff starts a transfer and returns once data flows.
func cutOff(t *testing.T, h *Host) (net.Conn, chan error) {
	t.Helper()
	c, err := h.Open(deadline(t), echoPort)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			if _, err := c.Write(payload()); err != nil {
				return
			}
		}
	}()
	if _, err := io.CopyN(io.Discard, c, 3<<20); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c)
		ended <- err
	}()
	return c, ended
}

func TestRestarts(t *testing.T) {
	for _, who := range []string{"guest", "host"} {
		t.Run(who, func(t *testing.T) {
			v := newVMM(t)
			g := startGuest(t, v)
			h := startHost(t, v)
			for range 5 {
				c, ended := cutOff(t, h)
				if who == "guest" {
					if err := g.Close(); err != nil {
						t.Fatal(err)
					}
					g = startGuest(t, v)
				} else {
					if err := h.Close(); err != nil {
						t.Fatal(err)
					}
					h = startHost(t, v)
				}
				if err := <-ended; err == nil {
					t.Error("a stream cut by a restart ended like a complete one")
				}
				_ = c.Close()
				if err := roundTrip(deadline(t), h, payload()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestCloseWakesReaderAndStalledWriter(t *testing.T) {
	v := newVMM(t)
	startGuest(t, v)
	h := startHost(t, v)
	c, err := h.Open(deadline(t), echoPort)
	if err != nil {
		t.Fatal(err)
	}
	read, wrote := make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read ended with %v", err)
	}
	// The echo of this never gets read, so the writer runs out of window.
	if c, err = h.Open(deadline(t), echoPort); err != nil {
		t.Fatal(err)
	}
	go func() { _, err := c.Write(make([]byte, 64<<20)); wrote <- err }()
	if err := c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("stalled write ended with %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := roundTrip(deadline(t), h, []byte("still alive")); err != nil {
		t.Fatal(err)
	}
}

// buggyLine panics when it is read, as a decoder with a bug would.
type buggyLine struct{}

func (buggyLine) Read([]byte) (int, error) { panic("a bug") }

// yamux reads the line on a goroutine of its own.
func TestPanicEndsTheSession(t *testing.T) {
	enc := newEncoder(io.Discard)
	defer func() { enc.stop(); <-enc.done }()
	c := &carrier{dec: newDecoder(buggyLine{}), enc: enc, unread: func() {}}
	session, err := yamux.Client(c, muxConfig(slog.New(slog.DiscardHandler), windowToHost))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-session.CloseChan():
	case <-deadline(t).Done():
		t.Fatal("the session goes on")
	}
	_ = session.Close()
	var e *guard.PanicError
	if !errors.As(c.err, &e) {
		t.Errorf("got %v", c.err)
	}
}
