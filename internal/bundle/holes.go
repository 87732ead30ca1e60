package bundle

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// holeReader reads a file and takes the zeros of holes from nowhere, so that
// they don't push other things out of the page cache.
type holeReader struct {
	f        *os.File
	size     int64
	offset   int64
	from, to int64 // where the next data are; offset is never beyond to, except at first
}

func newHoleReader(f *os.File, size int64) *holeReader { return &holeReader{f: f, size: size} }

func (r *holeReader) Read(p []byte) (int, error) {
	if r.offset >= r.size {
		return 0, io.EOF
	}
	if r.offset >= r.to {
		if err := r.seek(); err != nil {
			return 0, err
		}
	}
	if r.offset < r.from {
		n := int(min(int64(len(p)), r.from-r.offset))
		clear(p[:n])
		r.offset += int64(n)
		return n, nil
	}
	n, err := r.f.ReadAt(p[:min(int64(len(p)), r.to-r.offset)], r.offset)
	r.offset += int64(n)
	return n, err
}

// seek finds the next data. Where a file system can't tell, all are data.
func (r *holeReader) seek() error {
	fd := int(r.f.Fd())
	from, err := unix.Seek(fd, r.offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // only a hole is left
		r.from, r.to = r.size, r.size
		return nil
	}
	if errors.Is(err, unix.EINVAL) {
		r.from, r.to = r.offset, r.size
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for holes: %w", err)
	}
	to, err := unix.Seek(fd, from, unix.SEEK_HOLE)
	if err != nil {
		return fmt.Errorf("look for holes: %w", err)
	}
	r.from, r.to = min(from, r.size), min(to, r.size)
	return nil
}

// zeroRun is how many zeros make a frame of their own.
const zeroRun = 4 << 20

// zeroEncoder compresses with zstd. Long runs of zeros become frames that are
// compressed once and then copied, which makes them cost next to no time; to
// a decoder several frames are one stream (RFC 8878, section 3.1).
type zeroEncoder struct {
	w     io.Writer
	enc   *zstd.Encoder
	begun bool   // there is a frame that isn't closed
	zeros int64  // that were not written yet
	frame []byte // zeroRun zeros, compressed; nil until needed
}

func newZeroEncoder(w io.Writer) (*zeroEncoder, error) {
	// With one thread there is nothing that could make the bytes differ.
	enc, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	return &zeroEncoder{w: w, enc: enc}, nil
}

func (e *zeroEncoder) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n := run(p[written:], true)
		e.zeros += int64(n)
		written += n
		n = run(p[written:], false)
		if n == 0 {
			continue
		}
		if err := e.writeZeros(); err != nil {
			return written, err
		}
		e.begun = true
		if _, err := e.enc.Write(p[written : written+n]); err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// writeZeros writes the zeros that came before what is to be written now.
func (e *zeroEncoder) writeZeros() error {
	if e.zeros >= zeroRun {
		if err := e.endFrame(); err != nil {
			return err
		}
		if e.frame == nil {
			e.frame = e.enc.EncodeAll(make([]byte, zeroRun), nil)
		}
	}
	for ; e.zeros >= zeroRun; e.zeros -= zeroRun {
		if _, err := e.w.Write(e.frame); err != nil {
			return err
		}
	}
	for e.zeros > 0 {
		e.begun = true
		n := min(e.zeros, block)
		if _, err := e.enc.Write(zeros[:n]); err != nil {
			return err
		}
		e.zeros -= n
	}
	return nil
}

// endFrame ends the frame that is being written, if any.
func (e *zeroEncoder) endFrame() error {
	if !e.begun {
		return nil
	}
	if err := e.enc.Close(); err != nil {
		return err
	}
	e.enc.Reset(e.w)
	e.begun = false
	return nil
}

// Close ends the stream.
func (e *zeroEncoder) Close() error {
	return errors.Join(e.writeZeros(), e.endFrame())
}
