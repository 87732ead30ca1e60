package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A stream of the agent's whose length isn't known beforehand goes in chunks,
// so that its end can be told from the end of the connection, and a verdict can
// follow: four bytes with the length, the highest first, then as many bytes. A
// length of 0 ends the stream.

// maxChunk bounds a chunk, in bytes.
const maxChunk = 1 << 20

// ChunkWriter writes a stream in chunks: one for each Write of up to a MiB.
type ChunkWriter struct{ w io.Writer }

// NewChunkWriter returns a writer of chunks to w.
func NewChunkWriter(w io.Writer) *ChunkWriter { return &ChunkWriter{w} }

// Write writes p as chunks.
func (c *ChunkWriter) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		part := p[written:min(len(p), written+maxChunk)]
		if err := c.length(len(part)); err != nil {
			return written, err
		}
		n, err := c.w.Write(part)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// Close ends the stream. It doesn't close what the chunks are written to.
func (c *ChunkWriter) Close() error { return c.length(0) }

func (c *ChunkWriter) length(n int) error {
	_, err := c.w.Write(binary.BigEndian.AppendUint32(nil, uint32(n)))
	return err
}

// sinkError is a failure of the caller's writer.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// copyChunks copies a stream of chunks to its end. Errors of w are a
// *sinkError; a stream that is cut off is io.ErrUnexpectedEOF.
func copyChunks(w io.Writer, r io.Reader) error {
	buf := make([]byte, maxChunk)
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return cutOff(err)
		}
		n := binary.BigEndian.Uint32(head[:])
		if n == 0 {
			return nil
		}
		if n > maxChunk {
			return fmt.Errorf("a chunk of %d bytes", n)
		}
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return cutOff(err)
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return &sinkError{err}
		}
	}
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
