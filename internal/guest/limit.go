package guest

import (
	"bytes"
	"io"
)

// zeroUnit is the size of the pieces of zeros that a LimitWriter doesn't count,
// in bytes: the block of a tar.
const zeroUnit = 512

// LimitWriter passes on what a guest sends for as long as there is room for it.
type LimitWriter struct {
	W    io.Writer
	Left int64 // bytes that may still come
	Over error // what Write returns when more come
	// Holes tells that zeros take no room, as where they become holes of a file:
	// a guest's sparse files may be larger than its disk.
	Holes bool
}

// Write writes p, or nothing of it if there is no room.
func (l *LimitWriter) Write(p []byte) (int, error) {
	size := int64(len(p))
	if l.Holes {
		size = dataIn(p)
	}
	if size > l.Left {
		l.Left = 0
		return 0, l.Over
	}
	l.Left -= size
	return l.W.Write(p)
}

var zeros [zeroUnit]byte

// dataIn counts the bytes of p less those in pieces of zeros.
func dataIn(p []byte) int64 {
	var data int64
	for len(p) > 0 {
		piece := p[:min(len(p), zeroUnit)]
		if !bytes.Equal(piece, zeros[:len(piece)]) {
			data += int64(len(piece))
		}
		p = p[len(piece):]
	}
	return data
}
