package serialmux

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"banger/internal/guard"
)

// The framing below yamux. A byte escape in the payload travels as escape,
// escLiteral; escape, escMarker and nonceDigits hex digits are a reset marker.
// No other byte may follow an escape.
const (
	escape      = 0x10
	escLiteral  = 0x00
	escMarker   = 0x01
	nonceDigits = 16
	markerLen   = 2 + nonceDigits
)

// readBuffer is how much is read from the line at once.
const readBuffer = 64 << 10

// maxPending is how many escaped bytes may wait for the line before await
// keeps writers waiting.
const maxPending = 512 << 10

// nonce identifies one attempt of a host to synchronise.
type nonce [nonceDigits / 2]byte

// resyncPlease is the nonce of a guest that has started anew and doesn't know
// whether a host is in the middle of a session.
var resyncPlease nonce

// markerError says that a reset marker came where payload was expected.
type markerError struct{ nonce nonce }

func (e *markerError) Error() string {
	return fmt.Sprintf("the other side started a new session (%x)", e.nonce)
}

// errDesync says that the bytes on the line don't follow the framing, because
// one side died in the middle of writing.
var errDesync = errors.New("out of sync on the serial line")

// decoder takes the framing off the bytes of a line.
type decoder struct {
	r          io.Reader
	buf        []byte
	start, end int // what is buffered and not decoded yet
}

func newDecoder(r io.Reader) *decoder {
	return &decoder{r: r, buf: make([]byte, readBuffer)}
}

// Read returns payload. At a reset marker it returns a *markerError, at a
// violation of the framing errDesync; both are consumed and the next Read goes
// on behind them.
func (d *decoder) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		chunk := d.buf[d.start:d.end]
		plain := bytes.IndexByte(chunk, escape)
		if plain < 0 {
			plain = len(chunk)
		}
		copied := copy(p[n:], chunk[:plain])
		n += copied
		d.start += copied
		if copied < plain || n == len(p) {
			break
		}
		decoded, literal, err := d.decodeEscape(n == 0)
		if err != nil || !decoded {
			return n, err
		}
		if literal {
			p[n] = escape
			n++
		}
	}
	return n, nil
}

// decodeEscape handles an empty buffer or one that starts with an escape. It
// waits for missing bytes and reports errors only if wait is set, so that
// payload before them is delivered first; decoded tells whether it got
// anywhere, and literal that the payload goes on with an escape byte.
func (d *decoder) decodeEscape(wait bool) (decoded, literal bool, err error) {
	chunk := d.buf[d.start:d.end]
	switch {
	case len(chunk) >= 2 && chunk[1] == escLiteral:
		d.start += 2
		return true, true, nil
	case !wait:
		return false, false, nil
	case len(chunk) < 2:
		return true, false, d.fill()
	case chunk[1] != escMarker:
		d.start++ // the next byte may be the escape of a whole marker
		return false, false, errDesync
	}
	digits := chunk[2:min(len(chunk), markerLen)]
	for i, c := range digits {
		if !isHexDigit(c) {
			d.start += 2 + i
			return false, false, errDesync
		}
	}
	if len(digits) < nonceDigits {
		return true, false, d.fill()
	}
	marker := &markerError{}
	if _, err := hex.Decode(marker.nonce[:], digits); err != nil {
		return false, false, fmt.Errorf("decode reset marker: %w", err)
	}
	d.start += markerLen
	return false, false, marker
}

func isHexDigit(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }

// fill reads at least one more byte from the line.
func (d *decoder) fill() error {
	if d.start == d.end {
		d.start, d.end = 0, 0
	} else if d.end == len(d.buf) {
		d.end = copy(d.buf, d.buf[d.start:d.end])
		d.start = 0
	}
	n, err := d.r.Read(d.buf[d.end:])
	d.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// nextMarker discards everything up to and including the next reset marker.
func (d *decoder) nextMarker() (nonce, error) {
	scratch := make([]byte, 4096)
	for {
		_, err := d.Read(scratch)
		var marker *markerError
		switch {
		case errors.As(err, &marker):
			return marker.nonce, nil
		case err != nil && !errors.Is(err, errDesync):
			return nonce{}, err
		}
	}
}

// encoder puts the framing around payload and writes it to a line in the
// background, so that small writes travel together.
type encoder struct {
	w    io.Writer
	done chan struct{} // closed when the background writer has ended

	mu      sync.Mutex
	changed *sync.Cond // any field below changed
	pending []byte     // escaped, not given to w yet
	err     error      // why nothing can be written any more
}

func newEncoder(w io.Writer) *encoder {
	// flush doesn't hold the mutex while it writes, so a panic there is to be an
	// error of the line.
	e := &encoder{w: guard.Writer("write to a serial line", w), done: make(chan struct{})}
	e.changed = sync.NewCond(&e.mu)
	guard.Go("write to a serial line", e.flush)
	return e
}

// flush writes pending bytes until the encoder is stopped or the line fails.
func (e *encoder) flush() {
	defer close(e.done)
	var batch []byte
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		for len(e.pending) == 0 && e.err == nil {
			e.changed.Wait()
		}
		if e.err != nil {
			return
		}
		batch, e.pending = e.pending, batch[:0]
		e.changed.Broadcast()
		e.mu.Unlock()
		_, err := e.w.Write(batch)
		e.mu.Lock()
		if err != nil && e.err == nil {
			e.err = err
			e.changed.Broadcast()
		}
	}
}

// stop makes all writes fail. It doesn't interrupt a write to the line that is
// under way; see done.
func (e *encoder) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = net.ErrClosed
	}
	e.changed.Broadcast()
}

// wake makes writers look at their cancelled functions again.
func (e *encoder) wake() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.changed.Broadcast()
}

// await waits while too much is queued, unless cancelled returns (after a wake)
// why not to.
func (e *encoder) await(cancelled func() error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		if err := cancelled(); err != nil {
			return err
		}
		if e.err != nil {
			return e.err
		}
		if len(e.pending) < maxPending {
			return nil
		}
		e.changed.Wait()
	}
}

// write queues payload, and never waits: nothing that yamux does may depend on
// whether the other side reads the line. Who has much to write calls await
// before.
func (e *encoder) write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return 0, e.err
	}
	e.pending = appendEscaped(e.pending, p)
	e.changed.Broadcast()
	return len(p), nil
}

// reset forgets queued payload and queues a reset marker.
func (e *encoder) reset(n nonce) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pending = append(e.pending[:0], escape, escMarker)
	e.pending = hex.AppendEncode(e.pending, n[:])
	e.changed.Broadcast()
}

func appendEscaped(dst, p []byte) []byte {
	for {
		i := bytes.IndexByte(p, escape)
		if i < 0 {
			return append(dst, p...)
		}
		dst = append(dst, p[:i+1]...)
		dst = append(dst, escLiteral)
		p = p[i+1:]
	}
}
