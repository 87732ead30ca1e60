package agent

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// liveRoot is the root filesystem that the guest runs on, opened for an archive:
// each of the filesystems that make it up, without what is mounted on them.
type liveRoot struct {
	root  *os.File
	trees map[string]*os.File // directories bound from the disk, by their place
	rules *archiveRules
	open  []*os.File
}

// openLiveRoot opens the root of this process.
func openLiveRoot(r runtime) (*liveRoot, error) {
	l := &liveRoot{trees: map[string]*os.File{}, rules: newArchiveRules("/", r.Given)}
	var err error
	if l.root, err = l.openTree("/"); err != nil {
		l.close()
		return nil, err
	}
	for _, dir := range r.RealDirs {
		if l.trees[dir], err = l.openTree(dir); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// openTree opens a directory of a copy of its mount, which has none of the
// mounts below it: open_tree(2).
func (l *liveRoot) openTree(dir string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open the filesystem of %s: %w", dir, err)
	}
	l.open = append(l.open, os.NewFile(uintptr(fd), dir)) // the copy lasts as long as this
	fd, err = unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	f := os.NewFile(uintptr(fd), dir)
	l.open = append(l.open, f)
	return f, nil
}

// archive writes the tree as a tar stream once all that programs have written
// so far is there.
func (l *liveRoot) archive(w io.Writer) error {
	unix.Sync()
	return writeArchive(w, l.root, l.trees, l.rules)
}

func (l *liveRoot) close() {
	for _, f := range l.open {
		_ = f.Close()
	}
}
