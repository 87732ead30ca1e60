package ext4

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"banger/internal/api"
)

// The layout of extended attributes, fs/ext4/xattr.h and
// https://docs.kernel.org/filesystems/ext4/attributes.html.
const (
	xattrMagic       = 0xea020000
	xattrEntrySize   = 16 // without the name
	xattrBlockHeader = 32
	xattrEndMark     = 4
	// xattrInodeSpace is what an inode has left for attributes: xattrMagic,
	// the entries, and the values from the end.
	xattrInodeSpace = inodeSize - inodeUsed
)

// xattrPrefix is how tar files carry extended attributes, an extension of the
// tar by Jörg Schilling that is the common form.
const xattrPrefix = "SCHILY.xattr."

// namespaces are the numbers that stand for the starts of names.
var namespaces = []struct {
	prefix string
	index  uint8
	whole  bool // the prefix is all of the name
}{
	{aclAccess, 2, true},
	{aclDefault, 3, true},
	{"user.", 1, false},
	{"trusted.", 4, false},
	{"security.", 6, false},
}

// xattr is an extended attribute as it is stored.
type xattr struct {
	index uint8
	name  string // without the start that index stands for
	value []byte
}

// size is what x takes of the space for attributes.
func (x *xattr) size() int { return xattrEntrySize + align4(len(x.name)) + align4(len(x.value)) }

func align4(n int) int { return (n + 3) &^ 3 }

// toXattrs returns the attributes among the records of file, in order of their
// names. Those whose names mean nothing to Linux are left out, as an extraction
// would.
func toXattrs(file string, records map[string]string) ([]xattr, error) {
	var all []xattr
	for key, value := range records {
		full, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok {
			continue
		}
		x, ok := newXattr(full, value)
		if !ok {
			continue
		}
		if len(x.name) > maxName {
			return nil, api.Errorf(api.CodeInvalid, "%q has an extended attribute whose name has %d bytes", file, len(x.name))
		}
		if full == aclAccess || full == aclDefault {
			acl, err := diskACL(x.value)
			if err != nil {
				return nil, api.Errorf(api.CodeInvalid, "%q has a bad access control list: %v", file, err)
			}
			x.value = acl
		}
		all = append(all, x)
	}
	slices.SortFunc(all, compareXattrs)
	return all, nil
}

func newXattr(full, value string) (xattr, bool) {
	for _, ns := range namespaces {
		name, ok := strings.CutPrefix(full, ns.prefix)
		if ok && ns.whole == (name == "") {
			return xattr{ns.index, name, []byte(value)}, true
		}
	}
	return xattr{}, false
}

// compareXattrs gives the order that the kernel expects in a block.
func compareXattrs(a, b xattr) int {
	return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), cmp.Compare(a.name, b.name))
}

// splitXattrs chooses which attributes go into the inode and which into a
// block. ok is false if there are too many for both.
func splitXattrs(all []xattr) (inInode, inBlock []xattr, ok bool) {
	inodeLeft := xattrInodeSpace - 4 - xattrEndMark
	blockLeft := blockSize - xattrBlockHeader - xattrEndMark
	for _, x := range all {
		switch n := x.size(); {
		case n <= inodeLeft:
			inodeLeft -= n
			inInode = append(inInode, x)
		case n <= blockLeft:
			blockLeft -= n
			inBlock = append(inBlock, x)
		default:
			return nil, nil, false
		}
	}
	return inInode, inBlock, true
}

// inodeXattrs encodes attributes for the end of an inode.
func inodeXattrs(all []xattr) []byte {
	if len(all) == 0 {
		return nil
	}
	b := make([]byte, xattrInodeSpace)
	binary.LittleEndian.PutUint32(b, xattrMagic)
	putXattrs(b[4:], 0, all)
	return b
}

// xattrBlock encodes attributes for a block of one inode.
func xattrBlock(all []xattr) []byte {
	b := make([]byte, blockSize)
	binary.LittleEndian.PutUint32(b, xattrMagic)
	binary.LittleEndian.PutUint32(b[4:], 1) // references
	binary.LittleEndian.PutUint32(b[8:], 1) // blocks
	putXattrs(b[xattrBlockHeader:], xattrBlockHeader, all)
	return b
}

// putXattrs writes entries from the start of b and values from its end. Offsets
// of values count from base bytes before b.
func putXattrs(b []byte, base int, all []xattr) {
	at, end := 0, len(b)
	for _, x := range all {
		end -= align4(len(x.value))
		e := b[at:]
		e[0], e[1] = uint8(len(x.name)), x.index
		binary.LittleEndian.PutUint16(e[2:], uint16(base+end))
		binary.LittleEndian.PutUint32(e[8:], uint32(len(x.value)))
		binary.LittleEndian.PutUint32(e[12:], x.hash())
		copy(e[xattrEntrySize:], x.name)
		copy(b[end:], x.value)
		at += xattrEntrySize + align4(len(x.name))
	}
}

// hash is ext4_xattr_hash_entry, fs/ext4/xattr.c.
func (x *xattr) hash() uint32 {
	var h uint32
	for i := range len(x.name) {
		h = h<<5 ^ h>>27 ^ uint32(x.name[i])
	}
	padded := make([]byte, align4(len(x.value)))
	copy(padded, x.value)
	for ; len(padded) > 0; padded = padded[4:] {
		h = h<<16 ^ h>>16 ^ binary.LittleEndian.Uint32(padded)
	}
	return h
}
