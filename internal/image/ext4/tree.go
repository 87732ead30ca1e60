package ext4

import (
	"archive/tar"
	"path"
	"strings"

	"banger/internal/api"
)

// inodeTypes are those of entries that get an inode of their own.
var inodeTypes = map[byte]uint16{
	tar.TypeReg: typeRegular, tar.TypeCont: typeRegular, tar.TypeGNUSparse: typeRegular,
	tar.TypeDir: typeDir, tar.TypeSymlink: typeSymlink,
	tar.TypeChar: typeChar, tar.TypeBlock: typeBlock, tar.TypeFifo: typeFifo,
}

// place returns the inode for an entry: a new one, or the directory that is
// there already.
func (w *Writer) place(hdr *tar.Header) (*inode, error) {
	typ, ok := inodeTypes[hdr.Typeflag]
	if !ok {
		return nil, api.Errorf(api.CodeInvalid, "%q is of the unknown type %q", hdr.Name, hdr.Typeflag)
	}
	dir, name, err := w.parent(hdr)
	if err != nil {
		return nil, err
	}
	old, exists := w.root(), true
	if name != "" {
		old, exists = dir.dir.names[name]
	}
	switch {
	case exists && old.isDir() && typ == typeDir:
		return old, nil
	case exists:
		return nil, api.Errorf(api.CodeInvalid, "%q comes twice", hdr.Name)
	}
	n := &inode{mode: typ}
	if typ == typeDir {
		n = newDirectory(dir, 0)
	}
	return n, w.add(dir, name, n)
}

// link gives a file another name.
func (w *Writer) link(hdr *tar.Header) error {
	of := w.find(hdr.Linkname)
	if of == nil || of.isDir() {
		return api.Errorf(api.CodeInvalid, "%q is a hard link to %q, which is no file", hdr.Name, hdr.Linkname)
	}
	dir, name, err := w.parent(hdr)
	if err != nil {
		return err
	}
	if _, exists := dir.dir.names[name]; exists || name == "" {
		return api.Errorf(api.CodeInvalid, "%q comes twice", hdr.Name)
	}
	if of.links >= maxLinks {
		return api.Errorf(api.CodeInvalid, "%q has more than the %d hard links that ext4 can hold", hdr.Linkname, maxLinks)
	}
	return w.addName(dir, name, of)
}

// parent returns the directory of an entry, and makes it if no entry was for
// it, and the entry's name, which is empty for the root.
func (w *Writer) parent(hdr *tar.Header) (*inode, string, error) {
	dirs, name := path.Split(clean(hdr.Name))
	here := w.root()
	for part := range strings.SplitSeq(strings.TrimSuffix(dirs, "/"), "/") {
		if part == "" {
			continue
		}
		next, ok := here.dir.names[part]
		switch {
		case !ok:
			next = newDirectory(here, 0o755)
			next.mod = toStamp(hdr.ModTime)
			next.access, next.change = next.mod, next.mod
			if err := w.add(here, part, next); err != nil {
				return nil, "", err
			}
		case !next.isDir():
			return nil, "", api.Errorf(api.CodeInvalid, "%q is in %q, which is no directory", hdr.Name, part)
		}
		here = next
	}
	return here, name, nil
}

// find returns the file of a name, or nil.
func (w *Writer) find(name string) *inode {
	here := w.root()
	for part := range strings.SplitSeq(clean(name), "/") {
		if here == nil || !here.isDir() {
			return nil
		}
		if part != "" {
			here = here.dir.names[part]
		}
	}
	return here
}

// clean makes a name relative to the root and keeps it below.
func clean(name string) string { return path.Clean("/" + name)[1:] }
