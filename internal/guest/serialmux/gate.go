package serialmux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"banger/internal/guard"
)

// The frames of yamux, https://github.com/hashicorp/yamux/blob/master/spec.md:
// version, type, flags (16 bits), stream and length (32 bits each), and behind a
// data frame as many bytes as its length says.
const (
	headerSize = 12
	version    = 0

	frameData   = 0
	frameWindow = 1
	// 2 is a ping, 3 says that the session is over: neither side sends them.

	flagACK = 2 // 1, SYN, opens a stream
	flagFIN = 4
	flagRST = 8
)

// errForeign says that a guest sent what no agent sends.
var errForeign = errors.New("the guest's agent doesn't keep to the protocol")

// gate stands between the line and the host's yamux, which trusts its peer:
// it keeps every stream that the peer opens and what is sent on it, starts a
// goroutine for each ping, holds a stream's locks in the middle of a frame, and
// can't end a stream that the peer doesn't end, unless one closed half-way is
// ended so as well. So gate
//
//   - lets nothing pass but what an agent sends, and no stream is opened by it,
//   - passes frames on only once they are whole,
//   - can end a stream on both sides.
//
// yamux reads and writes on one goroutine each.
type gate struct {
	line *carrier
	poke func() // interrupts a Read of the line that is under way
	calm func() // undoes poke

	draining chan struct{} // a place for each closed stream that the guest has still to end

	frame [headerSize + maxFrame]byte // the one that is being read
	have  int                         // bytes of it
	ready []byte                      // what is next for yamux
	err   error                       // why reading ended; others may read it once the session has closed

	mu       sync.Mutex
	resets   []uint32 // streams whose end yamux has to be told
	header   []byte   // of the guest's next frame, while it isn't whole
	left     int      // bytes that yamux has still to write of a frame's body
	deferred []byte   // frames that wait for the end of that body
}

func newGate(line *carrier, poke, calm func()) *gate {
	return &gate{line: line, poke: poke, calm: calm, draining: make(chan struct{}, maxDraining)}
}

// Read gives yamux whole frames.
func (g *gate) Read(p []byte) (n int, err error) {
	// yamux calls this, and Write, on goroutines of its own.
	panicked := guard.Run("read a guest's frames", func() error {
		n, err = g.read(p)
		return nil
	})
	if panicked != nil {
		g.err = panicked
		return 0, panicked
	}
	return n, err
}

func (g *gate) read(p []byte) (int, error) {
	for len(g.ready) == 0 {
		if g.takeReset() {
			break
		}
		if g.err == nil {
			g.err = g.fill()
		}
		if g.err != nil {
			return 0, g.err
		}
	}
	n := copy(p, g.ready)
	g.ready = g.ready[n:]
	return n, nil
}

// fill reads on in the current frame, and makes it ready once it is whole.
func (g *gate) fill() error {
	want := headerSize
	if g.have >= headerSize {
		want += bodySize(g.frame[:])
	}
	n, err := g.line.Read(g.frame[g.have:want])
	g.have += n
	if errors.Is(err, os.ErrDeadlineExceeded) {
		g.calm()
		return nil
	}
	if err != nil {
		return err
	}
	if g.have < headerSize {
		return nil
	}
	if err := checkHeader(g.frame[:]); err != nil {
		return err
	}
	if whole := headerSize + bodySize(g.frame[:]); g.have == whole {
		g.ready, g.have = g.frame[:whole], 0
	}
	return nil
}

func bodySize(header []byte) int {
	if header[1] != frameData {
		return 0
	}
	return int(min(binary.BigEndian.Uint32(header[8:]), maxFrame))
}

// checkHeader refuses what an agent doesn't send. The host's streams have odd
// numbers.
func checkHeader(h []byte) error {
	kind, flags := h[1], binary.BigEndian.Uint16(h[2:])
	stream, length := binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint32(h[8:])
	switch {
	case h[0] != version || flags&^(flagACK|flagFIN|flagRST) != 0 || stream%2 == 0:
	case kind == frameWindow, kind == frameData && length <= maxFrame:
		return nil
	}
	return fmt.Errorf("%w: a frame that begins with % x", errForeign, h[:headerSize])
}

func (g *gate) takeReset() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.resets) == 0 {
		return false
	}
	g.ready = resetFrame(g.resets[0])
	g.resets = g.resets[1:]
	return true
}

func resetFrame(stream uint32) []byte {
	h := make([]byte, 4, headerSize)
	h[1], h[3] = frameWindow, flagRST
	h = binary.BigEndian.AppendUint32(h, stream)
	return binary.BigEndian.AppendUint32(h, 0)
}

// Write takes yamux's frames, in pieces of any size.
func (g *gate) Write(p []byte) (int, error) {
	err := guard.Run("write frames to a guest", func() error { return g.write(p) })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (g *gate) write(p []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(p) > 0 {
		part := g.step(p)
		if _, err := g.line.Write(p[:part]); err != nil {
			return err
		}
		p = p[part:]
		if err := g.flushDeferred(); err != nil {
			return err
		}
	}
	return nil
}

// step returns how many of the bytes, at least one, belong to the header or to
// the body that is being written. It is called with mu locked.
func (g *gate) step(p []byte) int {
	if g.left > 0 {
		part := min(g.left, len(p))
		g.left -= part
		return part
	}
	part := min(headerSize-len(g.header), len(p))
	if g.header = append(g.header, p[:part]...); len(g.header) == headerSize {
		if g.header[1] == frameData {
			g.left = int(binary.BigEndian.Uint32(g.header[8:]))
		}
		g.header = g.header[:0]
	}
	return part
}

// flushDeferred writes what waits for the end of a frame, if this is one. It is
// called with mu locked.
func (g *gate) flushDeferred() error {
	if g.left > 0 || len(g.header) > 0 || len(g.deferred) == 0 {
		return nil
	}
	_, err := g.line.Write(g.deferred)
	g.deferred = nil
	return err
}

// Close ends the line's session.
func (g *gate) Close() error { return g.line.Close() }

// reset ends a stream at once, here and in the guest.
func (g *gate) reset(stream uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.resets = append(g.resets, stream)
	g.deferred = append(g.deferred, resetFrame(stream)...)
	_ = g.flushDeferred() // the session ends with the line
	g.poke()
}

// What a guest may still do with a connection that was closed on the host: an
// agent notices at once and ends its side.
const (
	drainTime  = 15 * time.Second
	drainBytes = 16 << 20
	// maxDraining is how many connections may be in that state at once.
	maxDraining = 64
)

// drain reads a closed stream to its end, so that what was written before is
// delivered and the guest isn't stuck in a Write. A guest that doesn't come to
// an end has its stream reset.
func (g *gate) drain(stream *yamux.Stream, within time.Duration) {
	select {
	case g.draining <- struct{}{}:
		defer func() { <-g.draining }()
	default:
		g.reset(stream.StreamID())
		return
	}
	_ = stream.SetReadDeadline(time.Now().Add(within)) // never fails
	n, err := io.Copy(io.Discard, io.LimitReader(stream, drainBytes))
	if err != nil || n == drainBytes {
		g.reset(stream.StreamID())
	}
}
