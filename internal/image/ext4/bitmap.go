package ext4

import "math/bits"

// bitmap has a bit per block or inode, set if it is in use or doesn't exist.
type bitmap []byte

// set sets the bits from a number up to another.
func (b bitmap) set(from, to uint32) {
	for ; from < to; from++ {
		if from%8 == 0 && to-from >= 8 {
			b[from/8] = 0xff
			from += 7
			continue
		}
		b[from/8] |= 1 << (from % 8)
	}
}

func (b bitmap) clear(from, to uint32) {
	for ; from < to; from++ {
		b[from/8] &^= 1 << (from % 8)
	}
}

func zeroBits(b []byte) uint32 {
	var n int
	for _, x := range b {
		n += 8 - bits.OnesCount8(x)
	}
	return uint32(n)
}

// blockBitmap returns the bitmaps of all groups' blocks.
func (l *layout) blockBitmap() bitmap {
	b := make(bitmap, l.groups*blockSize)
	b.set(0, l.tables+l.groups*l.inodes/inodesInBlock)
	b.clear(1+l.written, 1+l.descs)
	for _, p := range l.freed {
		b.clear(p.start, p.start+p.blocks)
	}
	b.set(l.blocks, l.groups*groupBlocks)
	return b
}

// inodeBitmap returns the bitmap of a group's inodes, and how many of them are
// directories.
func (w *Writer) inodeBitmap(l *layout, group uint32) (b bitmap, dirs int) {
	b = make(bitmap, blockSize)
	first := group * l.inodes
	for i := range l.inodes {
		index := int(first + i)
		if index >= len(w.inodes) {
			break
		}
		b.set(i, i+1)
		if n := w.inodes[index]; n != nil && n.isDir() {
			dirs++
		}
	}
	b.set(l.inodes, maxGroupInode)
	return b, dirs
}
