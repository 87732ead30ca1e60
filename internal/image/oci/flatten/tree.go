package flatten

import (
	"archive/tar"
	"path"
	"strings"
	"time"
)

const (
	// maxFollow bounds the symbolic links on the way to a file, like the
	// kernel's MAXSYMLINKS.
	maxFollow = 40
	// maxDepth bounds how deep directories nest: more than a path can name.
	maxDepth = 2048
)

// tree is what the layers applied so far add up to.
type tree struct {
	root *inode
}

// directory is what an inode of the type tar.TypeDir has more than others.
type directory struct {
	names  map[string]name
	parent *inode // itself for the root
	depth  int
	// hidden is one more than the layer whose whiteout was last applied to
	// this directory, so that repeating it costs nothing.
	hidden int
}

// name is a directory entry.
type name struct {
	inode *inode
	layer int // that made it, or that last listed it if it is a directory
}

// put sets a name. It doesn't keep the memory of the path that base is cut
// from.
func (d *directory) put(base string, n name) {
	if _, exists := d.names[base]; !exists {
		base = strings.Clone(base)
	}
	d.names[base] = n
}

func newTree() *tree {
	root := &inode{typ: tar.TypeDir, mode: 0o755, mtime: time.Unix(0, 0)}
	root.dir = &directory{names: make(map[string]name), parent: root}
	return &tree{root: root}
}

func (n *inode) isDir() bool { return n.typ == tar.TypeDir }

// attach puts a new directory into its place.
func (n *inode) attach(parent *inode) error {
	depth := parent.dir.depth + 1
	if depth > maxDepth {
		return badLayer("its directories are nested more than %d deep", maxDepth)
	}
	n.dir = &directory{names: make(map[string]name), parent: parent, depth: depth}
	return nil
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
			if err := made.attach(here); err != nil {
				return nil, err
			}
			here.dir.put(part, name{made, m.layer})
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
