package workspace

import (
	"archive/tar"
	"io/fs"
	"syscall"
	"time"
)

// inode tells a file of the host's from others.
type inode struct{ dev, ino uint64 }

// sent is a file with several names that is in the stream. Size and time tell it
// from another one that got its inode meanwhile.
type sent struct {
	name  string
	size  int64
	mtime time.Time
}

// link adds a file as a further name of one that is in the stream already, and
// reports whether it could.
func (a *archive) link(name string, info fs.FileInfo) (bool, error) {
	id, several := inodeOf(info)
	if !several {
		return false, nil
	}
	first, known := a.links[id]
	if !known || first.size != info.Size() || !first.mtime.Equal(info.ModTime()) {
		return false, nil
	}
	a.meter.add(info.Size())
	return true, a.header(&tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: first.name, ModTime: info.ModTime()})
}

// noteSent notes a file that is whole in the stream.
func (a *archive) noteSent(name string, info fs.FileInfo) {
	if id, several := inodeOf(info); several {
		a.links[id] = sent{name, info.Size(), info.ModTime()}
	}
}

func inodeOf(info fs.FileInfo) (id inode, several bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Nlink < 2 {
		return inode{}, false
	}
	return inode{stat.Dev, stat.Ino}, true
}
