package ext4

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Directories are lists of names in blocks, without an index,
// https://docs.kernel.org/filesystems/ext4/directory.html.
const direntSize = 8 // without the name

// fileTypes are those of directory entries.
var fileTypes = map[uint16]uint8{
	typeRegular: 1, typeDir: 2, typeChar: 3, typeBlock: 4, typeFifo: 5, typeSymlink: 7,
}

// dirent is a name in a directory.
type dirent struct {
	name string
	of   *inode
}

// encodeDirectory returns the blocks of a directory. Names are in the order of
// their inodes, as e2fsck(8) would sort them.
func encodeDirectory(n *inode) []byte {
	entries := make([]dirent, 0, len(n.dir.names)+2)
	for name, of := range n.dir.names {
		entries = append(entries, dirent{name, of})
	}
	slices.SortFunc(entries, func(a, b dirent) int {
		return cmp.Or(cmp.Compare(a.of.number, b.of.number), cmp.Compare(a.name, b.name))
	})
	entries = slices.Insert(entries, 0, dirent{".", n}, dirent{"..", n.dir.parent})
	var b []byte
	last, left := 0, 0 // where the last entry starts; the room in its block
	for _, e := range entries {
		size := direntSize + align4(len(e.name))
		if left < size {
			stretch(b, last, left)
			b = append(b, zeroBlock[:]...)
			left = blockSize
		}
		last = len(b) - left
		d := b[last:]
		binary.LittleEndian.PutUint32(d, e.of.number)
		binary.LittleEndian.PutUint16(d[4:], uint16(size))
		d[6], d[7] = uint8(len(e.name)), fileTypes[e.of.mode&typeMask]
		copy(d[direntSize:], e.name)
		left -= size
	}
	stretch(b, last, left)
	return b
}

// stretch makes the last entry of a block take the room that is left.
func stretch(b []byte, last, left int) {
	if left > 0 {
		size := binary.LittleEndian.Uint16(b[last+4:])
		binary.LittleEndian.PutUint16(b[last+4:], size+uint16(left))
	}
}
