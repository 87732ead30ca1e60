package ext4

import (
	"bytes"
	"fmt"
	"os"

	"banger/internal/api"

	"golang.org/x/sys/unix"
)

const (
	blockSize = 4096
	// pendingSize is how much is gathered before it goes to the file.
	pendingSize = 1 << 20
)

var zeroBlock [blockSize]byte

// device is the file that becomes the image. Blocks are handed out one after
// the other and written at most once, except that zeros are not: they become
// holes of the file. It is not safe for concurrent use.
type device struct {
	f    *os.File
	next uint32 // the first block that nobody has
	max  uint32 // blocks

	pending []byte // not yet written
	at      int64  // where pending starts
}

func newDevice(f *os.File, first, limit uint32) *device {
	return &device{f: f, next: first, max: limit, pending: make([]byte, 0, pendingSize)}
}

// blocksOf returns how many blocks so many bytes take.
func blocksOf(size int64) int64 { return (size + blockSize - 1) / blockSize }

// reserve hands out blocks for so many bytes and returns the first. They are
// in one piece.
func (d *device) reserve(size int64) (uint32, error) {
	n := blocksOf(size)
	if n > int64(d.max)-int64(d.next) {
		return 0, api.Errorf(api.CodeInvalid, "the tree doesn't fit into an image of %d MiB", int64(d.max)*blockSize>>20)
	}
	start := d.next
	d.next += uint32(n)
	return start, nil
}

// WriteAt writes to blocks that were reserved. Small pieces that follow each
// other, or the end of a block, become one.
func (d *device) WriteAt(p []byte, offset int64) (int, error) {
	written := len(p)
	end := d.at + int64(len(d.pending))
	gap := offset - end
	if len(d.pending) > 0 && (gap < 0 || gap >= blockSize || int(gap) > cap(d.pending)-len(d.pending)) {
		if err := d.flush(); err != nil {
			return 0, err
		}
	}
	if len(d.pending) == 0 {
		d.at, gap = offset, 0
	}
	d.pending = append(d.pending, zeroBlock[:gap]...)
	for len(p) > 0 {
		if len(d.pending) == 0 && len(p) >= cap(d.pending) {
			if err := d.store(p, d.at); err != nil {
				return 0, err
			}
			d.at += int64(len(p))
			break
		}
		n := min(len(p), cap(d.pending)-len(d.pending))
		d.pending = append(d.pending, p[:n]...)
		p = p[n:]
		if len(d.pending) == cap(d.pending) {
			if err := d.flush(); err != nil {
				return 0, err
			}
		}
	}
	return written, nil
}

// flush writes what is pending.
func (d *device) flush() error {
	if err := d.store(d.pending, d.at); err != nil {
		return err
	}
	d.at += int64(len(d.pending))
	d.pending = d.pending[:0]
	return nil
}

// store writes p in runs of data and leaves whole blocks of zeros out.
func (d *device) store(p []byte, offset int64) error {
	for len(p) > 0 {
		n := 0
		for n < len(p) && !isZero(p[n:blockEnd(p, offset, n)]) {
			n = blockEnd(p, offset, n)
		}
		if n > 0 {
			if _, err := d.f.WriteAt(p[:n], offset); err != nil {
				return err
			}
		} else {
			n = blockEnd(p, offset, 0)
		}
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}

// blockEnd returns where the block that p[n] is in ends; p[0] is at offset.
func blockEnd(p []byte, offset int64, n int) int {
	return min(len(p), n+blockSize-int((offset+int64(n))%blockSize))
}

func isZero(p []byte) bool { return bytes.Equal(p, zeroBlock[:len(p)]) }

// punch gives the space of blocks back to the host, if its file system can.
func (d *device) punch(start, blocks uint32) error {
	err := unix.Fallocate(int(d.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE,
		int64(start)*blockSize, int64(blocks)*blockSize)
	if err != nil && err != unix.EOPNOTSUPP && err != unix.ENOSYS {
		return fmt.Errorf("free blocks of the image file: %w", err)
	}
	return nil
}
