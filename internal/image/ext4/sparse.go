package ext4

import (
	"bytes"
	"io"
	"os"
)

// holeSize is the unit in which zeros become holes, that of file systems.
const holeSize = 4096

// sparseFile is a file that doesn't store zeros: a block of them is left out
// when nothing was written there before. It is meant for a writer that starts
// on an empty file and mostly goes forward in big steps.
type sparseFile struct {
	f    *os.File
	pos  int64
	size int64 // as the writer sees it
	zero [64 << 10]byte
}

func newSparseFile(f *os.File) *sparseFile { return &sparseFile{f: f} }

// Write writes p in runs of data and skips runs of whole zero blocks.
func (s *sparseFile) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, zeros := s.run(p[done:])
		if !zeros {
			if _, err := s.f.WriteAt(p[done:done+n], s.pos); err != nil {
				return done, err
			}
		}
		s.pos += int64(n)
		s.size = max(s.size, s.pos)
		done += n
	}
	return done, nil
}

// run returns how many bytes at the start of p are all data or all to be
// skipped. Only what lies beyond everything written so far may be skipped.
func (s *sparseFile) run(p []byte) (n int, zeros bool) {
	if s.pos < s.size {
		return int(min(int64(len(p)), s.size-s.pos)), false
	}
	if n = s.zeroBlocks(p); n > 0 {
		return n, true
	}
	n = s.head(p)
	for n < len(p) {
		if s.isZero(p[n:min(n+holeSize, len(p))]) {
			break
		}
		n = min(n+holeSize, len(p))
	}
	return n, false
}

// head returns the length of p up to the next block boundary of the file.
func (s *sparseFile) head(p []byte) int {
	return min(len(p), int(holeSize-s.pos%holeSize))
}

// zeroBlocks returns the length of the zeros that p starts with, up to a block
// boundary or the end of p.
func (s *sparseFile) zeroBlocks(p []byte) int {
	n := s.head(p)
	if !s.isZero(p[:n]) {
		return 0
	}
	for n < len(p) {
		next := min(n+len(s.zero), len(p))
		if !s.isZero(p[n:next]) {
			next = min(n+holeSize, len(p))
			if !s.isZero(p[n:next]) {
				break
			}
		}
		n = next
	}
	return n
}

func (s *sparseFile) isZero(p []byte) bool { return bytes.Equal(p, s.zero[:len(p)]) }

// Read reads at the current position; skipped blocks read as zeros.
func (s *sparseFile) Read(p []byte) (int, error) {
	if s.pos >= s.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.size-s.pos)]
	n, err := s.f.ReadAt(p, s.pos)
	if err == io.EOF {
		clear(p[n:])
		n, err = len(p), nil
	}
	s.pos += int64(n)
	return n, err
}

// Seek sets the position. Going beyond the end leaves a hole.
func (s *sparseFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.pos
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 {
		return 0, os.ErrInvalid
	}
	s.pos = offset
	s.size = max(s.size, offset)
	return offset, nil
}

// finish gives the file its size, which holes at its end don't.
func (s *sparseFile) finish() error { return s.f.Truncate(s.size) }
