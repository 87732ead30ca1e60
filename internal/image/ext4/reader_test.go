package ext4

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
)

// reader reads images as the kernel does, and is as picky as e2fsck(8) about
// what a guest could be led astray by.
type reader struct {
	f      *os.File
	blocks uint32
	inodes uint32 // per group
	groups uint32
	descs  []byte
	used   map[uint32]uint32 // block → inode
	nodes  map[uint32]*node
}

// node is a file as it was read.
type node struct {
	number   uint32
	raw      []byte
	mode     uint16
	uid, gid uint32
	size     int64
	links    uint16
	names    int
	subdirs  int
	content  []byte // of directories and files; the target of a link
	xattrs   map[string]string
}

// readImage returns the files of an image by their path, "" for the root.
func readImage(f *os.File) (map[string]*node, error) {
	super := make([]byte, superSize)
	if _, err := f.ReadAt(super, superOffset); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	r := &reader{
		f: f, blocks: le.Uint32(super[4:]), inodes: le.Uint32(super[0x28:]),
		used: make(map[uint32]uint32), nodes: make(map[uint32]*node),
	}
	r.groups = (r.blocks + groupBlocks - 1) / groupBlocks
	if all := le.Uint32(super); all != r.inodes*r.groups {
		return nil, fmt.Errorf("%d inodes in %d groups of %d", all, r.groups, r.inodes)
	}
	if info, err := f.Stat(); err != nil || info.Size() != int64(r.blocks)*blockSize {
		return nil, fmt.Errorf("%d blocks in a file of %d bytes, %v", r.blocks, info.Size(), err)
	}
	r.descs = make([]byte, r.groups*groupDescSize)
	if _, err := f.ReadAt(r.descs, blockSize); err != nil {
		return nil, err
	}
	tree := make(map[string]*node)
	if err := r.directory(tree, "", rootInode, rootInode); err != nil {
		return nil, err
	}
	for path, n := range tree {
		if err := r.checkLinks(n); err != nil {
			return nil, fmt.Errorf("%.80q: %w", path, err)
		}
	}
	return tree, r.checkBitmaps(le.Uint32(super[0xc:]))
}

func (r *reader) block(n uint32) ([]byte, error) {
	if n == 0 || n >= r.blocks {
		return nil, fmt.Errorf("block %d of %d", n, r.blocks)
	}
	b := make([]byte, blockSize)
	_, err := r.f.ReadAt(b, int64(n)*blockSize)
	return b, err
}

// take reads a block of an inode, which no other may have.
func (r *reader) take(n, inode uint32) ([]byte, error) {
	if other, taken := r.used[n]; taken {
		return nil, fmt.Errorf("block %d is of the inodes %d and %d", n, other, inode)
	}
	r.used[n] = inode
	return r.block(n)
}

func (r *reader) node(number uint32) (*node, error) {
	if n := r.nodes[number]; n != nil {
		return n, nil
	}
	if number == 0 || number > r.inodes*r.groups {
		return nil, fmt.Errorf("there is no inode %d", number)
	}
	le := binary.LittleEndian
	group, index := (number-1)/r.inodes, (number-1)%r.inodes
	table := le.Uint32(r.descs[group*groupDescSize+8:])
	raw := make([]byte, inodeSize)
	if _, err := r.f.ReadAt(raw, int64(table)*blockSize+int64(index)*inodeSize); err != nil {
		return nil, err
	}
	n := &node{
		number: number, raw: raw, mode: le.Uint16(raw), links: le.Uint16(raw[0x1a:]),
		uid:  uint32(le.Uint16(raw[2:])) | uint32(le.Uint16(raw[0x78:]))<<16,
		gid:  uint32(le.Uint16(raw[0x18:])) | uint32(le.Uint16(raw[0x7a:]))<<16,
		size: int64(le.Uint32(raw[4:])) | int64(le.Uint32(raw[0x6c:]))<<32,
	}
	r.nodes[number] = n
	if err := r.contents(n); err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	if err := r.attributes(n); err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	return n, nil
}

func (r *reader) contents(n *node) error {
	switch n.mode & typeMask {
	case typeChar, typeBlock, typeFifo:
		return nil
	case typeSymlink:
		if n.size <= fastSymlink {
			n.content = n.raw[0x28 : 0x28+n.size]
			return nil
		}
	}
	if binary.LittleEndian.Uint32(n.raw[0x20:])&extentsFlag == 0 {
		return fmt.Errorf("no extents, mode %o", n.mode)
	}
	if err := r.extents(n, n.raw[0x28:0x64], 1); err != nil {
		return err
	}
	if int64(len(n.content)) != blocksOf(n.size)*blockSize {
		return fmt.Errorf("%d bytes in blocks, size %d", len(n.content), n.size)
	}
	n.content = n.content[:n.size]
	return nil
}

func (r *reader) extents(n *node, b []byte, depth int) error {
	le := binary.LittleEndian
	count, room := int(le.Uint16(b[2:])), int(le.Uint16(b[4:]))
	if le.Uint16(b) != extentMagic || count > room || (room+1)*extentSize > len(b) || int(le.Uint16(b[6:])) > depth {
		return fmt.Errorf("the header of extents % x", b[:extentSize])
	}
	for i := range count {
		e := b[(i+1)*extentSize:]
		if at := int64(le.Uint32(e)); at*blockSize != int64(len(n.content)) {
			return fmt.Errorf("an extent for block %d after %d bytes", at, len(n.content))
		}
		if le.Uint16(b[6:]) == 1 {
			leaf, err := r.take(le.Uint32(e[4:]), n.number)
			if err == nil {
				err = r.extents(n, leaf, 0)
			}
			if err != nil {
				return err
			}
			continue
		}
		for j := range uint32(le.Uint16(e[4:])) {
			data, err := r.take(le.Uint32(e[8:])+j, n.number)
			if err != nil {
				return err
			}
			n.content = append(n.content, data...)
		}
	}
	return nil
}

// attributes reads extended attributes.
func (r *reader) attributes(n *node) error {
	n.xattrs = make(map[string]string)
	if body := n.raw[inodeUsed:]; binary.LittleEndian.Uint32(body) == xattrMagic {
		if err := n.entries(body[4:], 0, false); err != nil {
			return err
		}
	}
	block := binary.LittleEndian.Uint32(n.raw[0x68:])
	if block == 0 {
		return nil
	}
	b, err := r.take(block, n.number)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b) != xattrMagic {
		return fmt.Errorf("the block of attributes begins with % x", b[:4])
	}
	return n.entries(b[xattrBlockHeader:], xattrBlockHeader, true)
}

func (n *node) entries(b []byte, base int, sorted bool) error {
	le := binary.LittleEndian
	var last xattr
	lowest := len(b) // of the values
	for at := 0; ; {
		if at+xattrEndMark > lowest {
			return fmt.Errorf("attributes and their values overlap at %d", at)
		}
		if le.Uint32(b[at:]) == 0 {
			return nil
		}
		e := b[at:]
		end := xattrEntrySize + int(e[0])
		if end > len(e) {
			return fmt.Errorf("the name of an attribute has %d bytes", e[0])
		}
		x := xattr{index: e[1], name: string(e[xattrEntrySize:end])}
		from, size := int(le.Uint16(e[2:]))-base, int(le.Uint32(e[8:]))
		if from < 0 || from+size > len(b) || from%4 != 0 {
			return fmt.Errorf("the value of an attribute has %d bytes at %d", size, from)
		}
		x.value = b[from : from+size]
		if le.Uint32(e[12:]) != x.hash() {
			return fmt.Errorf("the hash of an attribute is wrong")
		}
		if sorted && at > 0 && compareXattrs(last, x) >= 0 {
			return fmt.Errorf("attributes %v and %v are in the wrong order", last, x)
		}
		lowest = min(lowest, from)
		last = x
		full := ""
		for _, ns := range namespaces {
			if ns.index == x.index {
				full = ns.prefix + x.name
			}
		}
		if _, twice := n.xattrs[full]; full == "" || twice {
			return fmt.Errorf("attribute %q of kind %d", x.name, x.index)
		}
		n.xattrs[full] = string(x.value)
		at += align4(end)
	}
}

// directory reads a directory and all below it.
func (r *reader) directory(tree map[string]*node, path string, number, parent uint32) error {
	n, err := r.node(number)
	if err != nil {
		return err
	}
	if tree[path] = n; n.mode&typeMask != typeDir {
		return fmt.Errorf("%.80q has the mode %o", path, n.mode)
	}
	n.names += 2
	le := binary.LittleEndian
	seen := make(map[string]bool)
	for at := 0; at < len(n.content); {
		d := n.content[at:]
		left := blockSize - at%blockSize
		size, length := int(le.Uint16(d[4:])), int(d[6])
		if size%4 != 0 || size < direntSize+length || size > left || length == 0 {
			return fmt.Errorf("in %.80q: an entry of %d bytes with a name of %d, %d are left", path, size, length, left)
		}
		name, of := string(d[direntSize:direntSize+length]), le.Uint32(d)
		at += size
		want := map[string]uint32{".": number, "..": parent}[name]
		switch {
		case seen[name] || strings.ContainsAny(name, "/\x00"):
			return fmt.Errorf("in %.80q: the name %q", path, name)
		case want != 0 && (of != want || d[7] != fileTypes[typeDir]):
			return fmt.Errorf("in %.80q: %s is inode %d of kind %d, not %d", path, name, of, d[7], want)
		}
		seen[name] = true
		if want != 0 {
			continue
		}
		child, err := r.node(of)
		if err != nil {
			return err
		}
		if fileTypes[child.mode&typeMask] != d[7] {
			return fmt.Errorf("in %.80q: %q is of kind %d with the mode %o", path, name, d[7], child.mode)
		}
		below := strings.TrimPrefix(path+"/"+name, "/")
		if d[7] == fileTypes[typeDir] {
			n.subdirs++
			if err := r.directory(tree, below, of, number); err != nil {
				return err
			}
			continue
		}
		child.names++
		tree[below] = child
	}
	if !seen["."] || !seen[".."] {
		return fmt.Errorf("%.80q lacks itself or its parent", path)
	}
	return nil
}

func (r *reader) checkLinks(n *node) error {
	want := n.names + n.subdirs
	if n.mode&typeMask == typeDir && want > maxLinks {
		want = 1
	}
	if int(n.links) != want {
		return fmt.Errorf("%d links, %d names", n.links, want)
	}
	return nil
}

// checkBitmaps makes sure that what is in use is marked.
func (r *reader) checkBitmaps(free uint32) error {
	le := binary.LittleEndian
	zeros := uint32(0)
	for g := range r.groups {
		d := r.descs[g*groupDescSize:]
		blocks, err := r.block(le.Uint32(d))
		if err != nil {
			return err
		}
		inodes, err := r.block(le.Uint32(d[4:]))
		if err != nil {
			return err
		}
		zeros += zeroBits(blocks)
		for b, of := range r.used {
			if b/groupBlocks == g && blocks[b%groupBlocks/8]&(1<<(b%8)) == 0 {
				return fmt.Errorf("block %d of inode %d is marked free", b, of)
			}
		}
		for number := range r.nodes {
			if i := number - 1; i/r.inodes == g && inodes[i%r.inodes/8]&(1<<(i%r.inodes%8)) == 0 {
				return fmt.Errorf("inode %d is marked free", number)
			}
		}
	}
	if zeros != free {
		return fmt.Errorf("%d free blocks, %d are said to be", zeros, free)
	}
	return nil
}
