package flatten

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"banger/internal/api"
	"banger/internal/ctxreader"
)

// emitter writes a tree.
type emitter struct {
	ctx   context.Context
	w     Writer
	kept  *spool
	meter *meter
	buf   []byte
	stats Stats
}

// emit writes t to w.
func emit(ctx context.Context, t *tree, kept *spool, w Writer, progress api.ProgressFunc) (Stats, error) {
	e := &emitter{
		ctx:   ctx,
		w:     w,
		kept:  kept,
		meter: newMeter(progress, "image-write", "writing the image", sumContents(t.root, make(map[*inode]bool))),
		buf:   make([]byte, 256<<10),
	}
	defer e.meter.finish()
	if err := e.directory("", t.root); err != nil {
		return Stats{}, err
	}
	return e.stats, nil
}

// directory writes dir and all in it. path is "" or ends with a slash.
func (e *emitter) directory(path string, dir *inode) error {
	if e.ctx.Err() != nil {
		return context.Cause(e.ctx)
	}
	name := path
	if name == "" {
		name = "./"
	}
	if err := e.header(name, dir); err != nil {
		return err
	}
	for _, base := range slices.Sorted(maps.Keys(dir.dir.names)) {
		n := dir.dir.names[base].inode
		var err error
		if n.isDir() {
			err = e.directory(path+base+"/", n)
		} else {
			err = e.file(path+base, n)
		}
		if err != nil {
			return err
		}
	}
	dir.dir.names = nil // what takes the tree keeps one of its own meanwhile
	return nil
}

// file writes anything but a directory.
func (e *emitter) file(path string, n *inode) error {
	if n.written != "" {
		hdr := &tar.Header{Typeflag: tar.TypeLink, Name: path, Linkname: n.written, ModTime: n.mtime, Format: tar.FormatPAX}
		if err := e.w.WriteHeader(hdr); err != nil {
			return fmt.Errorf("write %q: %w", path, err)
		}
		e.stats.Entries++
		return nil
	}
	n.written = path
	if n.contents.placed {
		return e.placed(path, n)
	}
	if err := e.header(path, n); err != nil {
		return err
	}
	if n.contents.size == 0 {
		return nil
	}
	// Not io.Copy: that makes a buffer for every file.
	src := ctxreader.New(e.ctx, e.kept.open(n.contents))
	if _, err := io.CopyBuffer(e.w, src, e.buf); err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	e.meter.add(n.contents.size)
	e.stats.Bytes += n.contents.size
	return nil
}

// placed writes a file whose contents are there.
func (e *emitter) placed(path string, n *inode) error {
	to, ok := e.w.(Placer)
	if !ok {
		return fmt.Errorf("write %q: its contents are elsewhere", path)
	}
	if err := to.WriteFile(n.header(path), n.contents.offset); err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	e.meter.add(n.contents.size)
	e.stats.Entries++
	e.stats.Bytes += n.contents.size
	return nil
}

func (e *emitter) header(path string, n *inode) error {
	if err := e.w.WriteHeader(n.header(path)); err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	e.stats.Entries++
	return nil
}

// header describes n under a name.
func (n *inode) header(path string) *tar.Header {
	hdr := &tar.Header{
		Typeflag: n.typ,
		Name:     path,
		Linkname: n.target,
		Size:     n.contents.size,
		Mode:     int64(n.mode),
		Uid:      int(n.uid),
		Gid:      int(n.gid),
		ModTime:  n.mtime,
		Devmajor: int64(n.major),
		Devminor: int64(n.minor),
		// Times finer than a second, ids over 2,097,151, and names of any
		// bytes and length.
		Format: tar.FormatPAX,
	}
	for name, value := range n.xattrs {
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = make(map[string]string, len(n.xattrs))
		}
		hdr.PAXRecords[xattrPrefix+name] = value
	}
	return hdr
}

// sumContents adds up the files below dir; seen holds those with several names.
func sumContents(dir *inode, seen map[*inode]bool) int64 {
	var sum int64
	for _, n := range dir.dir.names {
		switch {
		case n.inode.isDir():
			sum += sumContents(n.inode, seen)
		case n.inode.contents.size > 0 && !seen[n.inode]:
			seen[n.inode] = true
			sum += n.inode.contents.size
		}
	}
	return sum
}
