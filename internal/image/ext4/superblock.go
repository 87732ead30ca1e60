package ext4

import (
	"encoding/binary"
	"time"
)

// The superblock, https://docs.kernel.org/filesystems/ext4/super.html.
const (
	superOffset = 1024
	superSize   = 1024

	superUUID = 0x68
	labelSize = 16

	magic = 0xef53

	compatExtAttr      = 0x8
	compatSparseSuper2 = 0x200 // no copies of the superblock, for none is listed

	incompatFiletype = 0x2
	incompatExtents  = 0x40
	incompatFlexBG   = 0x200

	roCompatLargeFile  = 0x2
	roCompatHugeFile   = 0x8
	roCompatDirNlink   = 0x20
	roCompatExtraIsize = 0x40
	roCompatReadonly   = 0x1000
)

// identity is what tells one file system from another.
type identity struct {
	uuid  [16]byte
	label string
	made  time.Time
}

// encodeSuper returns the superblock.
func encodeSuper(l *layout, freeBlocks, freeInodes uint32, id identity) []byte {
	made := uint32(min(max(id.made.Unix(), 0), 1<<32-1))
	b := make([]byte, superSize)
	for offset, value := range map[int]uint32{
		0x00:  l.inodes * l.groups,
		0x04:  l.blocks,
		0x0c:  freeBlocks,
		0x10:  freeInodes,
		0x18:  2, // blocks of 2^(10+2)
		0x1c:  2, // clusters as well
		0x20:  groupBlocks,
		0x24:  groupBlocks,
		0x28:  l.inodes,
		0x30:  made, // last write
		0x40:  made, // last check
		0x4c:  1,    // revision, with sizes of inodes
		0x54:  firstInode,
		0x5c:  compatExtAttr | compatSparseSuper2,
		0x60:  incompatFiletype | incompatExtents | incompatFlexBG,
		0x64:  roCompatLargeFile | roCompatHugeFile | roCompatDirNlink | roCompatExtraIsize | roCompatReadonly,
		0x108: made,
	} {
		binary.LittleEndian.PutUint32(b[offset:], value)
	}
	for offset, value := range map[int]uint16{
		0x36:  0xffff, // no limit on mounts between checks
		0x38:  magic,
		0x3a:  1, // clean
		0x3c:  1, // go on after errors
		0x58:  inodeSize,
		0x15c: inodeExtra,
		0x15e: inodeExtra,
	} {
		binary.LittleEndian.PutUint16(b[offset:], value)
	}
	b[0x174] = 31 // one flexible group has all
	copy(b[superUUID:], id.uuid[:])
	copy(b[0x78:0x78+labelSize], id.label)
	return b
}
