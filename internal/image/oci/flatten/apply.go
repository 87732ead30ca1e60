package flatten

import (
	"context"
	"errors"
)

// apply puts a layer over the tree, entry by entry, as an extraction would.
func (t *tree) apply(ctx context.Context, layer int, entries []entry) error {
	for i := range entries {
		if i%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e := &entries[i]
		var err error
		switch e.act {
		case actAdd:
			err = t.add(layer, e.path, e.inode)
		case actLink:
			err = t.link(layer, e.path, e.target)
		case actWhiteout:
			err = t.whiteout(layer, e.path)
		case actOpaque:
			err = t.opaque(layer, e.path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add puts n at p and replaces what is there, except that a directory over a
// directory keeps the content of the old one.
func (t *tree) add(layer int, p string, n *inode) error {
	if p == "" {
		if !n.isDir() {
			return badLayer("it replaces the root directory with a file")
		}
		become(t.root, n)
		return nil
	}
	parent, base, err := t.parent(p, &maker{layer, n.mtime})
	if err != nil {
		return err
	}
	old, exists := parent.dir.names[base]
	if exists && old.inode.isDir() && n.isDir() {
		become(old.inode, n)
		n = old.inode
	}
	return t.put(parent, base, name{n, layer})
}

// become gives a directory the attributes of another. Extended attributes
// aren't merged: a layer lists all that a directory has.
func become(dir, other *inode) {
	dir.mode, dir.uid, dir.gid = other.mode, other.uid, other.gid
	dir.mtime, dir.xattrs = other.mtime, other.xattrs
}

// link makes p another name of the file at target. A target that is a symbolic
// link is not followed, those on the way to it are.
func (t *tree) link(layer int, p, target string) error {
	from, base, err := t.parent(target, nil)
	if err != nil {
		return err
	}
	var old name
	if from != nil {
		old = from.dir.names[base]
	}
	switch {
	case p == "":
		return badLayer("it replaces the root directory with a hard link")
	case target == "" || old.inode != nil && old.inode.isDir():
		return badLayer("the hard link %q is of the directory %q", p, target)
	case old.inode == nil:
		return badLayer("the hard link %q is of %q, which doesn't exist", p, target)
	}
	parent, base, err := t.parent(p, &maker{layer, old.inode.mtime})
	if err != nil {
		return err
	}
	return t.put(parent, base, name{old.inode, layer})
}

// whiteout removes p as far as it comes from layers below. A path that leads
// nowhere is nothing to remove.
func (t *tree) whiteout(layer int, p string) error {
	parent, base, err := t.parent(p, nil)
	if err != nil || parent == nil {
		return unlessBad(err)
	}
	old, exists := parent.dir.names[base]
	switch {
	case !exists:
	case old.inode.isDir():
		hide(old.inode, layer)
		if old.layer != layer && len(old.inode.dir.names) == 0 {
			delete(parent.dir.names, base)
		}
	case old.layer != layer:
		delete(parent.dir.names, base)
	}
	return nil
}

// opaque hides what layers below have in the directory p.
func (t *tree) opaque(layer int, p string) error {
	dir, err := t.directory(p, nil)
	if err != nil || dir == nil {
		return unlessBad(err)
	}
	hide(dir, layer)
	return nil
}

// unlessBad drops errors of the layer, but not of what it may not ask for.
func unlessBad(err error) error {
	var bad *badLayerError
	if errors.As(err, &bad) && !bad.spent {
		return nil
	}
	return err
}
