package serialmux

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// What yamux's frames have in them, as
// https://github.com/hashicorp/yamux/blob/master/spec.md says.
const (
	evilData, evilWindow, evilPing = 0, 1, 2
	evilSYN, evilACK               = 1, 2
)

// evil is a guest that has taken its agent's port and says what it likes. It
// begins sessions properly, and leaves the rest to a test.
type evil struct {
	t    *testing.T
	ln   net.Listener
	line net.Conn
	dec  *decoder
}

// newEvil returns a guest and a host that is connected to it.
func newEvil(t *testing.T) (*evil, *Host) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := dial(t.Context(), path, slog.New(slog.DiscardHandler), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	e := &evil{t: t, ln: ln}
	t.Cleanup(func() {
		_ = ln.Close()
		_ = h.Close()
		if e.line != nil {
			_ = e.line.Close()
		}
	})
	return e, h
}

// meet accepts the host's connection and answers its marker.
func (e *evil) meet() {
	e.t.Helper()
	var err error
	if e.line, err = e.ln.Accept(); err != nil {
		e.t.Fatal(err)
	}
	e.dec = newDecoder(e.line)
	n, err := e.dec.nextMarker()
	if err != nil {
		e.t.Fatal(err)
	}
	e.write(rawMarker(n))
}

// rawMarker returns a marker as it is on the line.
func rawMarker(n nonce) []byte {
	const digits = "0123456789abcdef"
	b := []byte{escape, escMarker}
	for _, c := range n {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}

// write writes raw bytes and tells whether the host still takes them.
func (e *evil) write(b []byte) bool {
	_, err := e.line.Write(b)
	return err == nil
}

// frame sends one of yamux's frames; length may be a lie.
func (e *evil) frame(kind byte, flags uint16, id, length uint32, body []byte) bool {
	return e.write(appendEscaped(nil, frameOf(kind, flags, id, length, body)))
}

// heard is a frame of the host's.
type heard struct {
	kind       byte
	flags      uint16
	id, length uint32
}

// next reads a frame of the host's and its body.
func (e *evil) next() (heard, error) {
	take := func(n int) ([]byte, error) {
		buf := make([]byte, n)
		_, err := io.ReadFull(e.dec, buf)
		return buf, err
	}
	h, err := take(12)
	if err != nil {
		return heard{}, err
	}
	f := heard{h[1], binary.BigEndian.Uint16(h[2:]), binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint32(h[8:])}
	if f.kind == evilData {
		_, err = take(int(f.length))
	}
	return f, err
}

// acceptAll says yes to all streams, and never ends one. what runs for each
// stream that was accepted.
func (e *evil) acceptAll(what func(id uint32)) {
	for {
		f, err := e.next()
		if err != nil {
			return
		}
		if f.kind == evilData { // the port's number
			e.frame(evilWindow, evilACK, f.id, 1<<20, nil)
			e.frame(evilData, 0, f.id, 1, []byte{replyOK})
			if what != nil {
				what(f.id)
			}
		}
	}
}

// goes returns ctx's error if f takes longer than a test may.
func goes(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		buf := make([]byte, 1<<20)
		t.Fatalf("%s hangs:\n%s", what, buf[:runtime.Stack(buf, true)])
	}
}

// atMost waits until a measure has come down to a limit.
func atMost(t *testing.T, what string, limit int, measure func() int) {
	t.Helper()
	var now int
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if now = measure(); now <= limit {
			t.Logf("%s: %d", what, now)
			return
		}
	}
	t.Errorf("%s: %d, want at most %d", what, now, limit)
}

func heapMiB() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc >> 20)
}

// The guest opens streams that nobody asked for, and fills them.
func TestUnaskedStreams(t *testing.T) {
	e, _ := newEvil(t)
	before := heapMiB()
	e.meet()
	body := make([]byte, 64<<10)
	ended := false
	for i := range uint32(400) {
		id := 2 + 2*i
		for part := range 4 {
			flags := uint16(0)
			if part == 0 {
				flags = evilSYN
			}
			if !e.frame(evilData, flags, id, uint32(len(body)), body) {
				ended = true
			}
		}
	}
	if !ended {
		t.Error("the host goes on with a guest that opens streams")
	}
	atMost(t, "MiB of heap more", 16, func() int { return heapMiB() - before })
}

// The guest never ends its side of connections that were closed.
func TestClosedConnectionsLeaveNothing(t *testing.T) {
	for name, flood := range map[string]bool{"silent": false, "flooding": true} {
		t.Run(name, func(t *testing.T) {
			e, h := newEvil(t)
			e.meet()
			go e.acceptAll(func(id uint32) {
				if flood {
					body := make([]byte, 64<<10)
					for range 4 { // all that the first window has room for
						e.frame(evilData, 0, id, uint32(len(body)), body)
					}
				}
			})
			if _, err := h.Open(deadline(t), echoPort); err != nil { // the session is there now
				t.Fatal(err)
			}
			before, heap := runtime.NumGoroutine(), heapMiB()
			for range 500 {
				c, err := h.Open(deadline(t), echoPort)
				if err != nil {
					t.Fatal(err)
				}
				goes(t, "Close", func() { _ = c.Close() })
			}
			atMost(t, "goroutines more", 80, func() int { return runtime.NumGoroutine() - before })
			atMost(t, "MiB of heap more", 32, func() int { return heapMiB() - heap })
			atMost(t, "goroutines more at last", 0, func() int { return runtime.NumGoroutine() - before })
			atMost(t, "MiB of heap more at last", 4, func() int { return heapMiB() - heap })
		})
	}
}

// The guest asks for answers and takes none.
func TestPingFlood(t *testing.T) {
	e, _ := newEvil(t)
	e.meet()
	before := runtime.NumGoroutine()
	for i := range uint32(200_000) {
		if !e.frame(evilPing, evilSYN, 0, i, nil) {
			break
		}
	}
	atMost(t, "goroutines more", 10, func() int { return runtime.NumGoroutine() - before })
}

// A guest that takes nothing must not keep callers longer than they wish.
func TestGuestThatTakesNothing(t *testing.T) {
	e, h := newEvil(t)
	e.meet()
	accepted := make(chan struct{})
	go func() { // one stream is accepted, and nothing is read after that
		for {
			f, err := e.next()
			if err != nil {
				return
			}
			if f.kind == evilData {
				e.frame(evilWindow, evilACK, f.id, 1<<30, nil)
				e.frame(evilData, 0, f.id, 1, []byte{replyOK})
				close(accepted)
				return
			}
		}
	}()
	c, err := h.Open(deadline(t), echoPort)
	if err != nil {
		t.Fatal(err)
	}
	<-accepted
	goes(t, "a Write with a deadline", func() {
		_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write: %v", err)
		}
	})
	goes(t, "an Open with a deadline", func() {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := h.Open(ctx, echoPort); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open: %v", err)
		}
	})
	goes(t, "a Write to a connection that is closed", func() {
		_ = c.SetWriteDeadline(time.Time{})
		time.AfterFunc(50*time.Millisecond, func() { _ = c.Close() })
		if _, err := c.Write(make([]byte, 64<<20)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write: %v", err)
		}
	})
}

// A frame whose end never comes must not keep callers either.
func TestHalfFrame(t *testing.T) {
	e, h := newEvil(t)
	e.meet()
	sent := make(chan struct{})
	go e.acceptAll(func(id uint32) {
		e.frame(evilData, 0, id, 100_000, make([]byte, 10))
		close(sent)
	})
	c, err := h.Open(deadline(t), echoPort)
	if err != nil {
		t.Fatal(err)
	}
	<-sent
	goes(t, "a Read with a deadline", func() {
		for range 20 { // the first may come before the frame
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if _, err := io.ReadFull(c, make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Read: %v", err)
			}
		}
	})
	goes(t, "Close", func() { _ = c.Close() })
}

// Who breaks its sessions again and again is tried less and less often.
func TestBrokenSessionsAreTriedWithPauses(t *testing.T) {
	e, _ := newEvil(t)
	const sessions = 7
	start := time.Now()
	for range sessions {
		e.meet()
		e.frame(evilPing, 0xffff, 0, 0, nil) // breaks it
		e.frame(99, 0, 0, 0, nil)
		_, _ = io.Copy(io.Discard, e.line)
		_ = e.line.Close()
	}
	// The pauses between them are of 20 ms, and then twice as long each time.
	if took, least := time.Since(start), redialFirst*(1<<(sessions-1)-1); took < least {
		t.Errorf("%d sessions within %v, want no more often than in %v", sessions, took, least)
	}
}
