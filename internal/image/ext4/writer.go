package ext4

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/ctxreader"
)

// What ext4 with 4 KiB blocks can hold, and programs in a guest can use.
const (
	maxName    = 255
	maxPath    = 4095 // PATH_MAX less the final zero
	maxSymlink = 4095
	maxLinks   = 65000 // EXT4_LINK_MAX
	// The kernel's numbers of devices, include/linux/kdev_t.h.
	maxMajor, maxMinor = 1 << 12, 1 << 20
)

// Bounds on what is kept in memory until the end, so that a stream of nothing
// but names ends in an error.
const (
	maxNames    = 1 << 20
	maxMetadata = 256 << 20 // bytes of names, targets and attributes
)

// Writer takes a tree, entry by entry, like a tar.Writer. It is not safe for
// concurrent use.
type Writer struct {
	ctx     context.Context
	dev     *device
	inodes  []*inode // by number less one; nil for the reserved ones
	headers hash.Hash
	latest  time.Time // of all modification times, not before 1970

	namesLeft, metadataLeft int64 // of what may be kept in memory

	current string // the file that Write adds to
	at      int64  // where in the image
	left    int64  // how much is missing

	// reserved is what Reserve gave away and no entry has yet: from the first
	// block, how many there are.
	reserved map[uint32]uint32
}

func newWriter(ctx context.Context, dev *device) *Writer {
	w := &Writer{
		ctx: ctx, dev: dev, headers: sha256.New(), latest: time.Unix(0, 0),
		inodes: make([]*inode, firstInode-1), reserved: make(map[uint32]uint32),
		namesLeft: maxNames, metadataLeft: maxMetadata,
	}
	root := &inode{number: rootInode, mode: typeDir | 0o755, links: 2, dir: &directory{names: make(map[string]*inode)}}
	root.dir.parent = root
	w.inodes[rootInode-1] = root
	return w
}

func (w *Writer) root() *inode { return w.inodes[rootInode-1] }

func newDirectory(parent *inode, mode uint16) *inode {
	return &inode{mode: typeDir | mode, links: 1, dir: &directory{parent: parent, names: make(map[string]*inode)}}
}

// add gives a new inode its number and its first name.
func (w *Writer) add(dir *inode, name string, n *inode) error {
	if err := w.addName(dir, name, n); err != nil {
		return err
	}
	w.inodes = append(w.inodes, n)
	n.number = uint32(len(w.inodes))
	if n.isDir() {
		dir.links++
	}
	return nil
}

// addName gives an inode a name, of which it keeps nothing but a copy.
func (w *Writer) addName(dir *inode, name string, n *inode) error {
	if w.namesLeft--; w.namesLeft < 0 {
		return api.Errorf(api.CodeInvalid, "the tree has more than %d files", int64(maxNames))
	}
	if err := w.keep(len(name)); err != nil {
		return err
	}
	dir.dir.names[strings.Clone(name)] = n
	n.links++
	return nil
}

// keep counts bytes that stay in memory until the end.
func (w *Writer) keep(n int) error {
	if w.metadataLeft -= int64(n); w.metadataLeft < 0 {
		return api.Errorf(api.CodeInvalid, "the names and attributes in the tree take more than %d MiB", int64(maxMetadata)>>20)
	}
	return nil
}

// WriteHeader begins an entry, as that of tar.Writer does; Write adds its
// contents. It doesn't change hdr.
func (w *Writer) WriteHeader(hdr *tar.Header) error {
	n, err := w.entry(hdr)
	if err != nil || n == nil || !n.hasBlocks() {
		return err
	}
	if n.start, err = w.dev.reserve(n.size); err != nil {
		return err
	}
	w.at = int64(n.start) * blockSize
	if n.mode&typeMask == typeSymlink {
		_, err := w.dev.WriteAt([]byte(hdr.Linkname), w.at)
		return err
	}
	w.current, w.left = hdr.Name, n.size
	return nil
}

// Write adds to the contents of the current file.
func (w *Writer) Write(p []byte) (int, error) {
	if int64(len(p)) > w.left {
		return 0, fmt.Errorf("write %q: %w", w.current, tar.ErrWriteTooLong)
	}
	n, err := w.dev.WriteAt(p, w.at)
	w.at += int64(n)
	w.left -= int64(n)
	return n, err
}

// Reserve makes room for the contents of a file before it is known whether the
// tree will have it, and returns an offset for WriteAt and WriteFile. Room that
// no file takes in the end stays free in the image.
func (w *Writer) Reserve(size int64) (int64, error) {
	start, err := w.dev.reserve(size)
	if err != nil {
		return 0, err
	}
	w.reserved[start] = uint32(blocksOf(size))
	return int64(start) * blockSize, nil
}

// WriteAt writes, once, into what Reserve made room for. Writing in order is
// fastest.
func (w *Writer) WriteAt(p []byte, offset int64) (int, error) { return w.dev.WriteAt(p, offset) }

// WriteFile is WriteHeader for a regular file, not an empty one, whose contents
// are where Reserve said.
func (w *Writer) WriteFile(hdr *tar.Header, offset int64) error {
	start := uint32(offset / blockSize)
	if got, ok := w.reserved[start]; !ok || int64(got) != blocksOf(hdr.Size) {
		return fmt.Errorf("write %q: its contents aren't at %d", hdr.Name, offset)
	}
	delete(w.reserved, start)
	n, err := w.entry(hdr)
	if err != nil {
		return err
	}
	n.start = start
	return nil
}

// entry puts what hdr describes, except for its contents, into the tree. The
// result is nil for a hard link.
func (w *Writer) entry(hdr *tar.Header) (*inode, error) {
	if err := w.check(hdr); err != nil {
		return nil, err
	}
	if hdr.ModTime.After(w.latest) {
		w.latest = hdr.ModTime
	}
	hashHeader(w.headers, hdr)
	if hdr.Typeflag == tar.TypeLink {
		return nil, w.link(hdr)
	}
	n, err := w.place(hdr)
	if err != nil {
		return nil, err
	}
	return n, w.describe(n, hdr)
}

// check refuses what ext4 can't hold and what no tree can be.
func (w *Writer) check(hdr *tar.Header) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	if w.left > 0 {
		return fmt.Errorf("%d bytes of %q are missing", w.left, w.current)
	}
	return checkLimits(hdr)
}

func checkLimits(hdr *tar.Header) error {
	if err := checkName(hdr.Name); err != nil {
		return err
	}
	switch {
	case hdr.Typeflag == tar.TypeSymlink && len(hdr.Linkname) > maxSymlink:
		return api.Errorf(api.CodeInvalid, "the target of the symbolic link %q has %d bytes; ext4 allows %d",
			hdr.Name, len(hdr.Linkname), maxSymlink)
	case hdr.Typeflag == tar.TypeSymlink && hdr.Linkname == "":
		return api.Errorf(api.CodeInvalid, "the symbolic link %q has no target", hdr.Name)
	case hdr.Size > maxFile:
		return api.Errorf(api.CodeInvalid, "the file %q has %d GiB; images can hold files of %d GiB",
			hdr.Name, hdr.Size>>30, maxFile>>30)
	case !isID(hdr.Uid) || !isID(hdr.Gid):
		return api.Errorf(api.CodeInvalid, "%q belongs to the impossible user or group %d:%d", hdr.Name, hdr.Uid, hdr.Gid)
	case hdr.Devmajor < 0 || hdr.Devmajor >= maxMajor || hdr.Devminor < 0 || hdr.Devminor >= maxMinor:
		return api.Errorf(api.CodeInvalid, "the device %q has the impossible number %d:%d", hdr.Name, hdr.Devmajor, hdr.Devminor)
	}
	return nil
}

// checkName wants a name whose every part can be in a directory.
func checkName(name string) error {
	name = clean(name)
	if len(name) > maxPath {
		return api.Errorf(api.CodeInvalid, "the path %.40q… has %d bytes; Linux allows %d", name, len(name), maxPath)
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxName {
			return api.Errorf(api.CodeInvalid, "the name %.40q… has %d bytes; ext4 allows %d", part, len(part), maxName)
		}
	}
	return nil
}

// isID reports whether Linux has such users; the highest number means none.
func isID(id int) bool { return id >= 0 && id < math.MaxUint32 }

// describe gives n the attributes in hdr.
func (w *Writer) describe(n *inode, hdr *tar.Header) error {
	n.mode = n.mode&typeMask | uint16(hdr.Mode&0o7777)
	n.uid, n.gid = uint32(hdr.Uid), uint32(hdr.Gid)
	n.mod = toStamp(hdr.ModTime)
	n.access, n.change = n.mod, n.mod
	if !hdr.AccessTime.IsZero() {
		n.access = toStamp(hdr.AccessTime)
	}
	if !hdr.ChangeTime.IsZero() {
		n.change = toStamp(hdr.ChangeTime)
	}
	switch n.mode & typeMask {
	case typeRegular:
		n.size = hdr.Size
	case typeSymlink:
		n.mode |= 0o777
		n.size = int64(len(hdr.Linkname))
		if !n.hasBlocks() {
			n.target = strings.Clone(hdr.Linkname)
		}
	case typeChar, typeBlock:
		n.device = deviceNumber(hdr.Devmajor, hdr.Devminor)
	}
	all, err := toXattrs(hdr.Name, hdr.PAXRecords)
	if err != nil {
		return err
	}
	inInode, inBlock, ok := splitXattrs(all)
	if !ok {
		return api.Errorf(api.CodeInvalid, "%q has more extended attributes than the %d bytes that ext4 can hold", hdr.Name, blockSize)
	}
	n.xattrs = inodeXattrs(inInode)
	if err := w.keep(len(n.target) + len(n.xattrs)); err != nil {
		return err
	}
	if len(inBlock) == 0 {
		n.attributes = 0
		return nil
	}
	if n.attributes, err = w.dev.reserve(blockSize); err != nil {
		return err
	}
	_, err = w.dev.WriteAt(xattrBlock(inBlock), int64(n.attributes)*blockSize)
	return err
}

// hashHeader adds what tells one tree from another, contents aside.
func hashHeader(w hash.Hash, hdr *tar.Header) {
	w.Write([]byte(hdr.Name))
	w.Write([]byte{0, hdr.Typeflag})
	w.Write([]byte(hdr.Linkname))
	for _, n := range []int64{hdr.Size, hdr.Mode, int64(hdr.Uid), int64(hdr.Gid), hdr.ModTime.UnixNano()} {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], uint64(n))
		w.Write(b[:])
	}
}

// copyTar writes the entries of a tar stream.
func copyTar(w *Writer, r io.Reader) error {
	tr := tar.NewReader(bufio.NewReaderSize(r, copySize))
	buf := make([]byte, copySize)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("read the tar stream: %w", err)
		}
		if err := w.WriteHeader(hdr); err != nil {
			return err
		}
		// The holes of a sparse file come from nowhere, and may be many.
		if _, err := io.CopyBuffer(w, ctxreader.New(w.ctx, tr), buf); err != nil {
			return fmt.Errorf("copy %q: %w", hdr.Name, err)
		}
	}
}

// copySize is the unit of copying.
const copySize = 128 << 10
