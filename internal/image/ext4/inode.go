package ext4

import (
	"encoding/binary"
	"time"
)

// Inodes, https://docs.kernel.org/filesystems/ext4/inodes.html.
const (
	inodeSize  = 256
	inodeUsed  = 152 // up to the sub-second part of the time of creation
	inodeExtra = inodeUsed - 128

	rootInode  = 2
	firstInode = 11 // the first that isn't reserved

	extentsFlag = 0x80000

	// fastSymlink is how long a target may be to go into the inode.
	fastSymlink = 59

	typeMask    = 0xf000
	typeFifo    = 0x1000
	typeChar    = 0x2000
	typeDir     = 0x4000
	typeBlock   = 0x6000
	typeRegular = 0x8000
	typeSymlink = 0xa000
)

// Extents, https://docs.kernel.org/filesystems/ext4/ifork.html#extent-tree.
const (
	extentMagic    = 0xf30a
	extentSize     = 12     // of a header, an extent, an index
	maxExtent      = 0x8000 // blocks
	extentsInInode = 4
	extentsInBlock = blockSize/extentSize - 1
	// maxFile is what one level of blocks of extents can list.
	maxFile = int64(extentsInInode) * extentsInBlock * maxExtent * blockSize
)

// inode is a file of any type.
type inode struct {
	number              uint32
	mode                uint16 // type and permissions
	uid, gid            uint32
	links               uint32
	access, change, mod stamp
	size                int64
	start               uint32 // first block of the contents, all in one piece
	leaves              uint32 // first block of the list of extents, if it needs one
	attributes          uint32 // block of extended attributes, if there is one
	xattrs              []byte // extended attributes in the inode
	target              string // of a symbolic link
	device              uint32 // of a device
	dir                 *directory
}

// directory is what directories have more.
type directory struct {
	parent *inode
	names  map[string]*inode
}

func (n *inode) isDir() bool { return n.dir != nil }

// hasBlocks reports whether the contents are in blocks.
func (n *inode) hasBlocks() bool {
	return n.size > 0 && (n.mode&typeMask != typeSymlink || n.size > fastSymlink)
}

// extents returns how many extents the contents need.
func (n *inode) extents() int {
	if !n.hasBlocks() {
		return 0
	}
	return int((blocksOf(n.size) + maxExtent - 1) / maxExtent)
}

// leafCount returns how many blocks of extents there are beside the inode.
func (n *inode) leafCount() int {
	if e := n.extents(); e > extentsInInode {
		return (e + extentsInBlock - 1) / extentsInBlock
	}
	return 0
}

// stamp is a time as inodes have it.
type stamp struct{ seconds, extra uint32 }

// toStamp keeps what ext4 can express: 1901 to 2446, in nanoseconds.
func toStamp(t time.Time) stamp {
	s, ns := t.Unix(), uint32(t.Nanosecond())
	switch {
	case s < -1<<31:
		s, ns = -1<<31, 0
	case s > 0x37fffffff:
		s, ns = 0x37fffffff, 0
	}
	epoch := uint32((s-int64(int32(s)))>>32) & 3
	return stamp{uint32(s), ns<<2 | epoch}
}

// encode writes n to b, which is inodeSize zeros.
func (n *inode) encode(b []byte) {
	le := binary.LittleEndian
	le.PutUint16(b[0x00:], n.mode)
	le.PutUint16(b[0x02:], uint16(n.uid))
	le.PutUint32(b[0x04:], uint32(n.size))
	le.PutUint32(b[0x08:], n.access.seconds)
	le.PutUint32(b[0x0c:], n.change.seconds)
	le.PutUint32(b[0x10:], n.mod.seconds)
	le.PutUint16(b[0x18:], uint16(n.gid))
	links := n.links
	if n.isDir() && links > maxLinks {
		links = 1 // "many", with the feature dir_nlink
	}
	le.PutUint16(b[0x1a:], uint16(links))
	blocks := int64(n.leafCount())
	if n.hasBlocks() {
		blocks += blocksOf(n.size)
	}
	if n.attributes != 0 {
		blocks++
	}
	sectors := blocks * (blockSize / 512)
	le.PutUint32(b[0x1c:], uint32(sectors))
	le.PutUint16(b[0x74:], uint16(sectors>>32))
	le.PutUint32(b[0x68:], n.attributes)
	le.PutUint32(b[0x6c:], uint32(n.size>>32))
	le.PutUint16(b[0x78:], uint16(n.uid>>16))
	le.PutUint16(b[0x7a:], uint16(n.gid>>16))
	le.PutUint16(b[0x80:], inodeExtra)
	le.PutUint32(b[0x84:], n.change.extra)
	le.PutUint32(b[0x88:], n.mod.extra)
	le.PutUint32(b[0x8c:], n.access.extra)
	le.PutUint32(b[0x90:], n.mod.seconds) // of creation
	le.PutUint32(b[0x94:], n.mod.extra)
	copy(b[inodeUsed:], n.xattrs)
	n.encodeBlocks(b)
}

// encodeBlocks writes where the contents are, or the contents themselves.
func (n *inode) encodeBlocks(b []byte) {
	root := b[0x28:0x64]
	switch n.mode & typeMask {
	case typeChar, typeBlock:
		binary.LittleEndian.PutUint32(root[4:], n.device)
		return
	case typeFifo:
		return
	case typeSymlink:
		if !n.hasBlocks() {
			copy(root, n.target)
			return
		}
	}
	binary.LittleEndian.PutUint32(b[0x20:], extentsFlag)
	leaves := n.leafCount()
	if leaves == 0 {
		n.putExtents(root, 0, extentsInInode)
		return
	}
	putExtentHeader(root, leaves, extentsInInode, 1)
	for i := range leaves {
		e := root[extentSize*(i+1):]
		binary.LittleEndian.PutUint32(e, uint32(i*extentsInBlock*maxExtent))
		binary.LittleEndian.PutUint32(e[4:], n.leaves+uint32(i))
	}
}

// leaf returns one of the blocks of extents.
func (n *inode) leaf(i int) []byte {
	b := make([]byte, blockSize)
	n.putExtents(b, i*extentsInBlock, extentsInBlock)
	return b
}

// putExtents writes extents from the given one on, as many as there are and
// have room.
func (n *inode) putExtents(b []byte, first, room int) {
	count := min(n.extents()-first, room)
	putExtentHeader(b, count, room, 0)
	blocks := int64(0)
	if count > 0 {
		blocks = blocksOf(n.size)
	}
	for i := range count {
		at := int64(first+i) * maxExtent
		e := b[extentSize*(i+1):]
		binary.LittleEndian.PutUint32(e, uint32(at))
		binary.LittleEndian.PutUint16(e[4:], uint16(min(maxExtent, blocks-at)))
		binary.LittleEndian.PutUint32(e[8:], n.start+uint32(at))
	}
}

func putExtentHeader(b []byte, count, room, depth int) {
	binary.LittleEndian.PutUint16(b, extentMagic)
	binary.LittleEndian.PutUint16(b[2:], uint16(count))
	binary.LittleEndian.PutUint16(b[4:], uint16(room))
	binary.LittleEndian.PutUint16(b[6:], uint16(depth))
}

// deviceNumber is new_encode_dev, include/linux/kdev_t.h.
func deviceNumber(major, minor int64) uint32 {
	return uint32(minor&0xff | major<<8 | minor&^0xff<<12)
}
