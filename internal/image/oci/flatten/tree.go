package flatten

import (
	"archive/tar"
	"path"
	"strings"
	"time"
)

// maxFollow bounds the symbolic links on the way to a file, like the kernel's
// MAXSYMLINKS.
const maxFollow = 40

// tree is what the layers applied so far add up to.
type tree struct {
	root   *inode
	budget *budget
}

// directory is what an inode of the type tar.TypeDir has more than others.
type directory struct {
	names  map[string]name
	parent *inode // itself for the root
	length int    // of its path, with a slash at the end; 0 for the root
	// hidden is one more than the layer whose whiteout was last applied to
	// this directory, so that repeating it costs nothing.
	hidden int
}

// name is a directory entry.
type name struct {
	inode *inode
	layer int // that made it, or that last listed it if it is a directory
}

func newTree(budget *budget) *tree {
	root := &inode{typ: tar.TypeDir, mode: 0o755, mtime: time.Unix(0, 0)}
	root.dir = &directory{names: make(map[string]name), parent: root}
	return &tree{root, budget}
}

func (n *inode) isDir() bool { return n.typ == tar.TypeDir }

// put sets a name in a directory. It doesn't keep the memory of the path that
// base is cut from. What comes of symbolic links must not be longer than what a
// layer may name.
func (t *tree) put(dir *inode, base string, n name) error {
	length := dir.dir.length + len(base)
	if length > maxPath {
		return badLayer("a path of %d bytes is longer than %d", length, maxPath)
	}
	if _, exists := dir.dir.names[base]; !exists {
		base = strings.Clone(base)
	}
	if n.inode.isDir() && n.inode.dir == nil {
		n.inode.dir = &directory{names: make(map[string]name), parent: dir, length: length + 1}
	}
	dir.dir.names[base] = n
	return t.budget.walk(length)
}

// maker creates the directories that an entry needs and no layer lists.
type maker struct {
	layer int
	mtime time.Time // of the entry, so that the result has no time of its own
}

// directory returns the directory at p and follows symbolic links on the way,
// none of which leads out of the tree. With m, missing directories are made;
// without, the result is nil if one is missing.
func (t *tree) directory(p string, m *maker) (*inode, error) {
	if err := t.budget.walk(len(p)); err != nil {
		return nil, err
	}
	here := t.root
	follows := 0
	for rest := p; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			here = here.dir.parent
			continue
		}
		next, ok := here.dir.names[part]
		switch {
		case !ok && m == nil:
			return nil, nil
		case !ok:
			made := &inode{typ: tar.TypeDir, mode: 0o755, mtime: m.mtime}
			err := t.budget.take(len(part))
			if err == nil {
				err = t.put(here, part, name{made, m.layer})
			}
			if err != nil {
				return nil, err
			}
			here = made
		case next.inode.isDir():
			here = next.inode
		case next.inode.typ == tar.TypeSymlink:
			if follows++; follows > maxFollow {
				return nil, badLayer("the path %q goes through too many symbolic links", p)
			}
			if strings.HasPrefix(next.inode.target, "/") {
				here = t.root
			}
			rest = next.inode.target + "/" + rest
			if err := t.budget.walk(len(rest)); err != nil {
				return nil, err
			}
		default:
			return nil, badLayer("%q, on the way to %q, is not a directory", part, p)
		}
	}
	return here, nil
}

// parent returns the directory that p is, or shall be, a name in, and the name.
func (t *tree) parent(p string, m *maker) (*inode, string, error) {
	dir, base := path.Split(p)
	parent, err := t.directory(dir, m)
	return parent, base, err
}

// hide removes from dir all that layers below the given one put there. What
// this layer has in it stays.
func hide(dir *inode, layer int) {
	if dir.dir.hidden == layer+1 {
		return
	}
	dir.dir.hidden = layer + 1
	for base, n := range dir.dir.names {
		if n.inode.isDir() {
			hide(n.inode, layer)
			if n.layer == layer || len(n.inode.dir.names) > 0 {
				continue
			}
		} else if n.layer == layer {
			continue
		}
		delete(dir.dir.names, base)
	}
}
