package ext4

import (
	"encoding/binary"
	"fmt"
)

// Block groups, https://docs.kernel.org/filesystems/ext4/blockgroup.html. All
// of what describes them is in one place after the contents, which the feature
// flex_bg allows; only their descriptors follow the superblock.
const (
	groupBlocks   = 8 * blockSize // that one block of bitmap describes
	groupDescSize = 32            // without the feature 64bit
	maxGroupInode = 8 * blockSize
	inodesInBlock = blockSize / inodeSize
)

// descBlocks returns how many blocks descriptors take in an image of so many
// blocks.
func descBlocks(blocks int64) uint32 {
	groups := (blocks + groupBlocks - 1) / groupBlocks
	return uint32((groups*groupDescSize + blockSize - 1) / blockSize)
}

// layout is where things are in an image.
type layout struct {
	descs   uint32 // blocks that were kept for descriptors
	data    uint32 // where contents and directories end, and bitmaps start
	groups  uint32
	inodes  uint32 // per group
	tables  uint32 // where inode tables start
	blocks  uint32 // of the image
	freed   []piece
	written uint32 // descriptor blocks in use
}

// piece is a run of blocks.
type piece struct{ start, blocks uint32 }

// plan finds the least number of groups in which the data, so many inodes and
// what describes both have room.
func plan(descs, data uint32, inodes int) (layout, error) {
	for groups := (int64(data) + groupBlocks - 1) / groupBlocks; groups <= int64(descs)*blockSize/groupDescSize; groups++ {
		perGroup := (int64(inodes) + groups - 1) / groups
		perGroup = (perGroup + inodesInBlock - 1) / inodesInBlock * inodesInBlock
		if perGroup > maxGroupInode {
			continue
		}
		tables := int64(data) + 2*groups
		blocks := tables + groups*perGroup/inodesInBlock
		if blocks > groups*groupBlocks {
			continue
		}
		return layout{
			descs: descs, data: data, groups: uint32(groups), inodes: uint32(perGroup), tables: uint32(tables),
			blocks:  uint32(max(blocks, (groups-1)*groupBlocks+1)),
			written: descBlocks(groups * groupBlocks),
		}, nil
	}
	return layout{}, fmt.Errorf("%d blocks and %d inodes don't fit", data, inodes)
}

// finish completes the file system once all entries are there.
func (w *Writer) finish(id identity) error {
	if w.left > 0 {
		return fmt.Errorf("%d bytes of %q are missing", w.left, w.current)
	}
	if err := w.writeTree(); err != nil {
		return err
	}
	l, err := plan(descBlocks(int64(w.dev.max)), w.dev.next, len(w.inodes))
	if err != nil {
		return err
	}
	for start, blocks := range w.reserved {
		l.freed = append(l.freed, piece{start, blocks})
	}
	freeBlocks, freeInodes, err := w.writeGroups(&l)
	if err != nil {
		return err
	}
	if err := w.writeInodes(&l); err != nil {
		return err
	}
	if _, err := w.dev.WriteAt(encodeSuper(&l, freeBlocks, freeInodes, id), superOffset); err != nil {
		return err
	}
	if err := w.dev.flush(); err != nil {
		return err
	}
	for _, p := range l.freed {
		if err := w.dev.punch(p.start, p.blocks); err != nil {
			return err
		}
	}
	return w.dev.f.Truncate(int64(l.blocks) * blockSize)
}

// writeTree writes directories and the extents of big files.
func (w *Writer) writeTree() error {
	for _, n := range w.inodes {
		if n == nil {
			continue
		}
		if n.isDir() {
			blocks := encodeDirectory(n)
			n.size = int64(len(blocks))
			var err error
			if n.start, err = w.dev.reserve(n.size); err != nil {
				return err
			}
			if _, err := w.dev.WriteAt(blocks, int64(n.start)*blockSize); err != nil {
				return err
			}
		}
		for i := range n.leafCount() {
			at, err := w.dev.reserve(blockSize)
			if err != nil {
				return err
			}
			if i == 0 {
				n.leaves = at
			}
			if _, err := w.dev.WriteAt(n.leaf(i), int64(at)*blockSize); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeInodes writes the tables, which are in one piece.
func (w *Writer) writeInodes(l *layout) error {
	var b [inodeSize]byte
	at := int64(l.tables) * blockSize
	for _, n := range w.inodes {
		if n != nil {
			clear(b[:])
			n.encode(b[:])
			if _, err := w.dev.WriteAt(b[:], at); err != nil {
				return err
			}
		}
		at += inodeSize
	}
	return nil
}

// writeGroups writes bitmaps and descriptors.
func (w *Writer) writeGroups(l *layout) (freeBlocks, freeInodes uint32, err error) {
	used := l.blockBitmap()
	descs := make([]byte, l.groups*groupDescSize)
	for g := range l.groups {
		blockMap := used[g*blockSize : (g+1)*blockSize]
		inodeMap, dirs := w.inodeBitmap(l, g)
		bitmaps := l.data + 2*g
		noBlocks, noInodes := zeroBits(blockMap), zeroBits(inodeMap)
		freeBlocks, freeInodes = freeBlocks+noBlocks, freeInodes+noInodes
		d := descs[g*groupDescSize:]
		binary.LittleEndian.PutUint32(d[0x0:], bitmaps)
		binary.LittleEndian.PutUint32(d[0x4:], bitmaps+1)
		binary.LittleEndian.PutUint32(d[0x8:], l.tables+g*l.inodes/inodesInBlock)
		binary.LittleEndian.PutUint16(d[0xc:], uint16(noBlocks))
		binary.LittleEndian.PutUint16(d[0xe:], uint16(noInodes))
		binary.LittleEndian.PutUint16(d[0x10:], uint16(dirs))
		for i, block := range [][]byte{blockMap, inodeMap} {
			if _, err := w.dev.WriteAt(block, int64(bitmaps+uint32(i))*blockSize); err != nil {
				return 0, 0, err
			}
		}
	}
	_, err = w.dev.WriteAt(descs, blockSize)
	return freeBlocks, freeInodes, err
}
