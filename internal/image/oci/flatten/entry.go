package flatten

import (
	"archive/tar"
	"path"
	"strings"
	"time"
)

// Bounds on single entries. Paths are bounded by PATH_MAX, names and link
// targets by what any Linux file system takes.
const (
	maxPath   = 4095
	maxName   = 255
	maxXattrs = 64 << 10 // bytes of an entry's extended attributes
)

// Marker files, https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts.
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	// metaPrefix starts names that AUFS left in layers for itself.
	metaPrefix = ".wh..wh."
)

const xattrPrefix = "SCHILY.xattr."

// action is what an entry of a layer asks for.
type action int

const (
	actAdd      action = iota // put inode at path
	actLink                   // make path another name of target
	actWhiteout               // remove path from the layers below
	actOpaque                 // remove all in path from the layers below
)

// entry is an entry of a layer. Paths are clean and relative to the root,
// which is "".
type entry struct {
	act    action
	path   string
	target string // of actLink
	inode  *inode // of actAdd
}

// inode is a file of any type. It has as many names as directory entries point
// to it.
type inode struct {
	typ          byte // tar.TypeReg, TypeDir, TypeSymlink, TypeChar, TypeBlock or TypeFifo
	mode         uint16
	uid, gid     uint32
	major, minor uint32
	mtime        time.Time
	target       string            // of a symbolic link
	contents     contents          // of a file
	xattrs       map[string]string // nil if there are none

	dir *directory // of a directory, once it is in the tree

	written string // the name that the contents went out under, once they did
}

// toEntry checks a header and says what it asks for. ok is false for entries
// that mean nothing. Contents are not read.
func toEntry(hdr *tar.Header) (e entry, ok bool, err error) {
	e.path, err = cleanPath(hdr.Name)
	if err != nil {
		return e, false, err
	}
	dir, base := path.Split(e.path)
	switch {
	case hdr.Typeflag == tar.TypeXGlobalHeader:
		return e, false, nil
	case base == opaqueMarker:
		e.act, e.path = actOpaque, strings.TrimSuffix(dir, "/")
		return e, true, nil
	case strings.HasPrefix(base, metaPrefix) || strings.Contains(dir, metaPrefix):
		return e, false, nil
	case strings.HasPrefix(base, whiteoutPrefix):
		name := strings.TrimPrefix(base, whiteoutPrefix)
		if name == "" || name == "." || name == ".." {
			return e, false, badLayer("the whiteout %q names no file", hdr.Name)
		}
		e.act, e.path = actWhiteout, dir+name
		return e, true, nil
	case hdr.Typeflag == tar.TypeLink:
		e.act = actLink
		if e.target, err = cleanPath(hdr.Linkname); err != nil {
			return e, false, err
		}
		return e, true, nil
	}
	e.inode, err = toInode(hdr)
	return e, err == nil, err
}

// cleanPath makes a name of an archive relative to the root and free of "."
// and "..", without going above the root.
func cleanPath(name string) (string, error) {
	clean := path.Clean("/" + name)[1:]
	if len(clean) > maxPath {
		return "", badLayer("a path of %d bytes is longer than %d", len(clean), maxPath)
	}
	for part := range strings.SplitSeq(clean, "/") {
		if len(part) > maxName {
			return "", badLayer("the name %.40q… has %d bytes; %d are allowed", part, len(part), maxName)
		}
	}
	return clean, nil
}

func toInode(hdr *tar.Header) (*inode, error) {
	n := &inode{
		typ:   hdr.Typeflag,
		mode:  uint16(hdr.Mode & 0o7777),
		mtime: hdr.ModTime,
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		n.typ, n.contents.size = tar.TypeReg, hdr.Size
	case tar.TypeDir, tar.TypeFifo:
	case tar.TypeSymlink:
		n.target = hdr.Linkname
		if n.target == "" || len(n.target) > maxPath {
			return nil, badLayer("the symbolic link %q has a target of %d bytes", hdr.Name, len(n.target))
		}
	case tar.TypeChar, tar.TypeBlock:
		// The kernel's limits, include/linux/kdev_t.h.
		if hdr.Devmajor < 0 || hdr.Devmajor >= 1<<12 || hdr.Devminor < 0 || hdr.Devminor >= 1<<20 {
			return nil, badLayer("the device %q has the number %d:%d", hdr.Name, hdr.Devmajor, hdr.Devminor)
		}
		n.major, n.minor = uint32(hdr.Devmajor), uint32(hdr.Devminor)
	default:
		return nil, badLayer("%q is of the unknown type %q", hdr.Name, hdr.Typeflag)
	}
	var err error
	if n.uid, err = toID(hdr.Name, hdr.Uid); err != nil {
		return nil, err
	}
	if n.gid, err = toID(hdr.Name, hdr.Gid); err != nil {
		return nil, err
	}
	n.xattrs, err = toXattrs(hdr)
	return n, err
}

// toID checks a user or group id; the highest one is chown(2)'s "no change".
func toID(name string, id int) (uint32, error) {
	if id < 0 || id >= 1<<32-1 {
		return 0, badLayer("%q belongs to the impossible user or group %d", name, id)
	}
	return uint32(id), nil
}

func toXattrs(hdr *tar.Header) (map[string]string, error) {
	var xattrs map[string]string
	size := 0
	for key, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok || name == "" {
			continue
		}
		if size += len(name) + len(value); size > maxXattrs {
			return nil, badLayer("%q has more than %d bytes of extended attributes", hdr.Name, maxXattrs)
		}
		if xattrs == nil {
			xattrs = make(map[string]string)
		}
		xattrs[name] = value
	}
	return xattrs, nil
}

// metadata is about how much memory e takes beyond its fixed part.
func (e *entry) metadata() int {
	n := len(e.path) + len(e.target)
	if e.inode != nil {
		n += len(e.inode.target)
		for name, value := range e.inode.xattrs {
			n += len(name) + len(value)
		}
	}
	return n
}
