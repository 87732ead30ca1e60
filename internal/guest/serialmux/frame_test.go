package serialmux

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"banger/internal/guard"
)

// encode runs payload through an encoder.
func encode(t testing.TB, steps func(*encoder)) []byte {
	t.Helper()
	r, w := io.Pipe()
	e := newEncoder(w)
	out := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(r)
		out <- b
	}()
	steps(e)
	e.mu.Lock()
	for len(e.pending) > 0 {
		e.changed.Wait()
	}
	e.mu.Unlock()
	e.stop()
	<-e.done
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return <-out
}

func hostile(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	marker := []byte("\x10\x010123456789abcdef\x10\x00\x10\x10\x01")
	var b []byte
	for len(b) < n {
		switch r.IntN(4) {
		case 0:
			b = append(b, marker[:r.IntN(len(marker))]...)
		case 1:
			b = append(b, bytes.Repeat([]byte{escape}, r.IntN(40))...)
		default:
			for range r.IntN(300) {
				b = append(b, byte(r.Uint32()))
			}
		}
	}
	return b[:n]
}

func TestFramingKeepsHostilePayload(t *testing.T) {
	want := hostile(1 << 20)
	line := encode(t, func(e *encoder) {
		for p := want; len(p) > 0; {
			n := min(len(p), 1+len(p)/3)
			if _, err := e.write(p[:n]); err != nil {
				t.Error(err)
			}
			p = p[n:]
		}
	})
	for name, r := range map[string]io.Reader{
		"whole":    bytes.NewReader(line),
		"halves":   iotest.HalfReader(bytes.NewReader(line)),
		"one byte": iotest.OneByteReader(bytes.NewReader(line)),
	} {
		got, err := io.ReadAll(newDecoder(r))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: payload changed on the line (%d of %d bytes, err %v)", name, len(got), len(want), err)
		}
	}
}

func TestMarkerComesAfterPayloadBeforeIt(t *testing.T) {
	n := nonce{1, 2, 3, 4, 5, 6, 7, 0xff}
	line := append([]byte("abc"), encode(t, func(e *encoder) { e.reset(n) })...)
	line = append(line, "def"...)
	d := newDecoder(iotest.OneByteReader(bytes.NewReader(line)))
	before, err := io.ReadAll(d)
	var marker *markerError
	if string(before) != "abc" || !errors.As(err, &marker) || marker.nonce != n {
		t.Fatalf("got %q, %v; want abc and a marker", before, err)
	}
	after, err := io.ReadAll(d)
	if string(after) != "def" || err != nil {
		t.Fatalf("got %q, %v behind the marker", after, err)
	}
}

// A predecessor may die at any byte; the marker of its successor must be seen.
func TestMarkerIsFoundBehindAnyTornPrefix(t *testing.T) {
	n := nonce{0xab}
	marker := encode(t, func(e *encoder) { e.reset(n) })
	whole := append(encode(t, func(e *encoder) { e.reset(nonce{1}) }), "\x10\x00x\x10\x10\x01"...)
	for cut := range len(whole) + 1 {
		for skip := range cut + 1 {
			d := newDecoder(bytes.NewReader(append(bytes.Clone(whole[skip:cut]), marker...)))
			for {
				got, err := d.nextMarker()
				if err != nil {
					t.Fatalf("behind %q: %v", whole[skip:cut], err)
				}
				if got == n {
					break
				}
			}
		}
	}
}

func TestWritersWaitForTheLine(t *testing.T) {
	r, w := io.Pipe()
	e := newEncoder(w)
	enough := errors.New("enough")
	asked := 0
	for {
		if err := e.await(func() error {
			if asked++; asked > 100 {
				return enough
			}
			return nil
		}); errors.Is(err, enough) {
			t.Fatal("writers needn't wait")
		}
		if _, err := e.write(make([]byte, maxPending)); err != nil {
			t.Fatal(err)
		}
		e.mu.Lock()
		full := len(e.pending) >= maxPending
		e.mu.Unlock()
		if full {
			break
		}
	}
	waited := make(chan error)
	gaveUp := atomic.Bool{}
	go func() {
		waited <- e.await(func() error {
			if gaveUp.Load() {
				return enough
			}
			return nil
		})
	}()
	gaveUp.Store(true)
	e.wake()
	if err := <-waited; !errors.Is(err, enough) {
		t.Errorf("who gives up waiting: %v", err)
	}
	if err := r.CloseWithError(io.ErrClosedPipe); err != nil {
		t.Fatal(err)
	}
	<-e.done
	if _, err := e.write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("write to a broken line: %v", err)
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte("\x10\x01zz\x10"), []byte("payload\x10\x00"))
	f.Fuzz(func(t *testing.T, garbage, payload []byte) {
		n := nonce{9, 9, 9}
		line := append(bytes.Clone(garbage), encode(t, func(e *encoder) { e.reset(n) })...)
		line = append(line, encode(t, func(e *encoder) {
			if _, err := e.write(payload); err != nil {
				t.Error(err)
			}
		})...)
		d := newDecoder(bytes.NewReader(line))
		for {
			got, err := d.nextMarker()
			if err != nil {
				t.Fatal("the marker was missed")
			}
			if got == n {
				break
			}
		}
		got, err := io.ReadAll(d)
		if err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("payload %q became %q (%v)", payload, got, err)
		}
	})
}

func BenchmarkFraming(b *testing.B) {
	payload := make([]byte, 128<<10)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(payload)
	b.SetBytes(int64(len(payload)))
	pr, pw := io.Pipe()
	e := newEncoder(pw)
	go func() {
		for {
			if e.await(func() error { return nil }) != nil {
				return
			}
			if _, err := e.write(payload); err != nil {
				return
			}
		}
	}()
	d := newDecoder(pr)
	buf := make([]byte, len(payload))
	for b.Loop() {
		if _, err := io.ReadFull(d, buf); err != nil {
			b.Fatal(err)
		}
	}
	e.stop()
	_ = pr.Close()
	<-e.done
}

// buggyWriter panics, as a line with a bug would.
type buggyWriter struct{}

func (buggyWriter) Write([]byte) (int, error) { panic("a bug") }

func TestPanicOfALineThatIsWritten(t *testing.T) {
	e := newEncoder(buggyWriter{})
	_, err := e.write([]byte("x"))
	<-e.done
	if err == nil {
		_, err = e.write([]byte("y"))
	}
	var bug *guard.PanicError
	if !errors.As(err, &bug) {
		t.Errorf("got %v", err)
	}
}
