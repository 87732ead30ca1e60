package serialmux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"
)

// frameOf returns one of yamux's frames; length may be a lie.
func frameOf(kind byte, flags uint16, id, length uint32, body []byte) []byte {
	h := []byte{0, kind}
	h = binary.BigEndian.AppendUint16(h, flags)
	h = binary.BigEndian.AppendUint32(h, id)
	h = binary.BigEndian.AppendUint32(h, length)
	return append(h, body...)
}

// seedSessions are what guests may say on a session's first stream, 1.
func seedSessions(f *testing.F) {
	ok := append(frameOf(evilWindow, evilACK, 1, 1<<20, nil), frameOf(evilData, 0, 1, 1, []byte{replyOK})...)
	for _, more := range [][]byte{
		nil,
		frameOf(evilData, flagFIN, 1, 3, []byte("bye")),
		frameOf(evilWindow, flagRST, 1, 0, nil),
		frameOf(evilWindow, flagFIN, 1, 0, nil),
		frameOf(evilData, evilSYN, 2, 3, []byte("hey")),
		frameOf(evilPing, evilSYN, 0, 7, nil),
		frameOf(evilData, 0, 1, 1<<31, []byte("x")),
		frameOf(evilWindow, 0, 1, 1<<32-1, nil),
		frameOf(3, 0, 0, 1, nil),
	} {
		f.Add(appendEscaped(nil, append(bytes.Clone(ok), more...)))
	}
	f.Add([]byte("\x10\x01zz"))
}

// Whatever comes in, yamux sees whole frames of the host's own streams.
func FuzzGate(f *testing.F) {
	seedSessions(f)
	f.Fuzz(func(t *testing.T, line []byte) {
		g := newGate(&carrier{dec: newDecoder(bytes.NewReader(line))}, func() {}, func() {})
		out, err := io.ReadAll(g)
		if err == nil && len(line) > 0 && g.have == 0 && len(out) == 0 {
			t.Error("bytes have vanished")
		}
		for len(out) > 0 {
			if len(out) < headerSize {
				t.Fatalf("a frame that ends early: % x", out)
			}
			if err := checkHeader(out); err != nil {
				t.Fatal(err)
			}
			if flags := binary.BigEndian.Uint16(out[2:]); flags&evilSYN != 0 {
				t.Fatalf("the guest may open a stream: % x", out[:headerSize])
			}
			whole := headerSize + bodySize(out)
			if whole > len(out) {
				t.Fatalf("a frame that ends early: % x", out)
			}
			out = out[whole:]
		}
	})
}

// Whatever a guest says, a session comes to its end with nothing left of it
// (see TestMain), and callers get their answers.
func FuzzHostileGuest(f *testing.F) {
	seedSessions(f)
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, theirs := net.Pipe()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		h := &Host{
			log: slog.New(slog.DiscardHandler), drainTime: time.Millisecond, opening: make(chan struct{}, maxOpening),
			done: make(chan struct{}), changed: make(chan struct{}),
		}
		served := make(chan error, 1)
		go func() {
			err := h.serve(ctx, ours)
			close(h.done)
			served <- err
		}()
		talked := make(chan struct{})
		go func() {
			defer close(talked)
			hostTalks(ctx, h)
		}()
		dec := newDecoder(theirs)
		n, err := dec.nextMarker()
		if err != nil {
			t.Fatal(err)
		}
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			_, err := io.Copy(io.Discard, theirs)
			if errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}()
		if _, err := theirs.Write(rawMarker(n)); err == nil {
			_, _ = theirs.Write(said) // until the host has enough
		}
		_ = theirs.Close()
		for _, end := range []<-chan struct{}{talked, heard} {
			<-end
		}
		<-served
		if ctx.Err() != nil {
			t.Error("the session or its caller hangs")
		}
	})
}

// hostTalks opens a connection as calls do, until the session is over.
func hostTalks(ctx context.Context, h *Host) {
	c, err := h.Open(ctx, echoPort)
	if err != nil {
		return
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, c)
}
