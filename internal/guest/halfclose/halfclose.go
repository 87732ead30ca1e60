// Package halfclose adds half-close to a connection that has none.
//
// Firecracker's vsock is such a connection. When the host shuts down one
// direction of the Unix socket, Firecracker shuts down both directions of the
// guest's connection and drops what the guest sends from then on; a guest that
// shuts down one direction isn't noticed by the host at all (recv_pkt and
// send_pkt in its src/vmm/src/devices/virtio/vsock/csm/connection.rs). So both
// ends wrap their connection by New, and the end of a direction is told inside
// of it.
//
// # Format
//
// Each direction is a series of chunks: the number of bytes, four bytes in
// big-endian order, and the bytes. A chunk of no bytes is the end of the
// direction.
package halfclose

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	headerSize = 4
	// maxChunk bounds a chunk's bytes. It is what Firecracker's vsock passes on
	// at once.
	maxChunk = 64 << 10
)

// closeTimeout bounds the time that Close takes to say goodbye to a peer that
// doesn't read.
const closeTimeout = 100 * time.Millisecond

// errCorrupt says that the peer doesn't speak this format.
var errCorrupt = errors.New("the stream has a malformed chunk")

// Conn is a connection with half-close. It can be used as any net.Conn: reads
// and writes may go on at the same time.
type Conn struct {
	net.Conn

	reading sync.Mutex
	in      *bufio.Reader
	left    int   // bytes of the current chunk that weren't read yet
	readErr error // sticky

	writing  sync.Mutex
	out      []byte // a chunk
	writeErr error  // sticky
	ended    bool   // CloseWrite was called
}

// New wraps a connection whose other end is wrapped as well.
func New(conn net.Conn) *Conn {
	return &Conn{Conn: conn, in: bufio.NewReaderSize(conn, headerSize+maxChunk)}
}

// Read reads payload. It returns io.EOF at the end that the peer has told, and
// io.ErrUnexpectedEOF when the connection ends without.
func (c *Conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.readErr != nil {
		return 0, c.readErr
	}
	if len(p) == 0 {
		return 0, nil
	}
	if c.left == 0 {
		if err := c.nextChunk(); err != nil {
			return 0, err
		}
	}
	n, err := c.in.Read(p[:min(len(p), c.left)])
	c.left -= n
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// nextChunk reads a chunk's header. What a deadline interrupts stays in the
// buffer, so that reading can go on later.
func (c *Conn) nextChunk() error {
	header, err := c.in.Peek(headerSize)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	size := binary.BigEndian.Uint32(header)
	switch {
	case size > maxChunk:
		c.readErr = errCorrupt
		return c.readErr
	case size == 0:
		c.readErr = io.EOF
		return c.readErr
	}
	if _, err := c.in.Discard(headerSize); err != nil {
		return err
	}
	c.left = int(size)
	return nil
}

// Write writes payload. After an error the stream is of no more use, even if it
// was a deadline.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	total := 0
	for len(p) > 0 {
		chunk := p[:min(len(p), maxChunk)]
		if err := c.writeChunk(chunk); err != nil {
			return total, err
		}
		total += len(chunk)
		p = p[len(chunk):]
	}
	return total, nil
}

// writeChunk writes a chunk at once. The caller holds writing.
func (c *Conn) writeChunk(payload []byte) error {
	if c.writeErr != nil {
		return c.writeErr
	}
	c.out = binary.BigEndian.AppendUint32(c.out[:0], uint32(len(payload)))
	c.out = append(c.out, payload...)
	if _, err := c.Conn.Write(c.out); err != nil {
		c.writeErr = fmt.Errorf("the stream broke off: %w", err)
		return err
	}
	return nil
}

// CloseWrite ends the data in this direction; the other direction goes on.
func (c *Conn) CloseWrite() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.end()
}

// end writes the last chunk. The caller holds writing.
func (c *Conn) end() error {
	if c.ended {
		return nil
	}
	if err := c.writeChunk(nil); err != nil {
		return err
	}
	c.ended, c.writeErr = true, net.ErrClosed
	return nil
}

// Close ends both directions. What was written before is still delivered.
func (c *Conn) Close() error {
	// A Write that is stuck mustn't keep Close from closing.
	if c.writing.TryLock() {
		if c.SetWriteDeadline(time.Now().Add(closeTimeout)) == nil {
			_ = c.end() // a peer that has gone doesn't have to be told
		}
		c.writing.Unlock()
	}
	return c.Conn.Close()
}

// Listen wraps each connection that l accepts.
func Listen(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return New(conn), nil
}
