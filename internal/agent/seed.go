package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// seedSuffix marks a copy that isn't complete.
const seedSuffix = ".incomplete"

// seed makes dst a copy of the directory src unless it is there already. A
// copy that was interrupted is thrown away and made again: dst appears by a
// rename, once all of it is on the disk.
func seed(src, dst string) error {
	if _, err := os.Lstat(dst); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	partial := dst + seedSuffix
	if err := os.RemoveAll(partial); err != nil {
		return fmt.Errorf("remove an interrupted copy: %w", err)
	}
	if err := copyTree(src, partial); err != nil {
		return err
	}
	if err := syncFilesystem(filepath.Dir(dst)); err != nil {
		return err
	}
	return os.Rename(partial, dst)
}

// seedEmpty is seed for a directory with nothing in it. It needn't wait for the
// disk, which has the directory before it has its new name.
func seedEmpty(src, dst string) error {
	partial := dst + seedSuffix
	if err := os.RemoveAll(partial); err != nil {
		return fmt.Errorf("remove an interrupted copy: %w", err)
	}
	c := &treeCopy{}
	if err := c.copy(src, partial); err != nil {
		return err
	}
	for _, setTimes := range c.dirs {
		if err := setTimes(); err != nil {
			return err
		}
	}
	return os.Rename(partial, dst)
}

func syncFilesystem(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("write %s to disk: %w", dir, err)
	}
	return nil
}

// treeCopy copies a tree with owners, modes, times, extended attributes and
// hard links, as far as they are inside the tree.
type treeCopy struct {
	links map[inode]string // first copy of each file with several names
	dirs  []func() error   // set the times of directories, which copying into them changes
}

type inode struct{ dev, ino uint64 }

func copyTree(src, dst string) error {
	c := &treeCopy{links: map[inode]string{}}
	err := filepath.WalkDir(src, func(from string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(src, from)
		if err != nil {
			return err
		}
		return c.copy(from, filepath.Join(dst, relative))
	})
	for i := len(c.dirs) - 1; i >= 0 && err == nil; i-- {
		err = c.dirs[i]()
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", src, err)
	}
	return nil
}

// copy copies one file, without what is below it.
func (c *treeCopy) copy(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := c.links[id]; ok {
			return os.Link(first, to)
		}
		c.links[id] = to
	}
	switch info.Mode().Type() {
	case 0:
		err = copyContent(from, to)
	case fs.ModeDir:
		err = os.Mkdir(to, 0o700)
	case fs.ModeSymlink:
		var target string
		if target, err = os.Readlink(from); err == nil {
			err = os.Symlink(target, to)
		}
	default: // devices, pipes and sockets
		err = unix.Mknod(to, st.Mode, int(st.Rdev))
	}
	if err != nil {
		return err
	}
	return c.copyMeta(from, to, info)
}

func copyContent(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(in)
	return errors.Join(err, out.Close())
}

// copyMeta copies what isn't content. The order matters: a change of owner
// clears setuid bits and capabilities.
func (c *treeCopy) copyMeta(from, to string, info fs.FileInfo) error {
	st := info.Sys().(*syscall.Stat_t)
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
			return &fs.PathError{Op: "chmod", Path: to, Err: err}
		}
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	setTimes := func() error {
		times := []unix.Timespec{{Sec: st.Atim.Sec, Nsec: st.Atim.Nsec}, {Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "utimensat", Path: to, Err: err}
		}
		return nil
	}
	if info.IsDir() {
		c.dirs = append(c.dirs, setTimes)
		return nil
	}
	return setTimes()
}

func copyXattrs(from, to string) error {
	names, err := listXattrs(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		value, err := readXattr(from, name)
		if err != nil {
			return &fs.PathError{Op: "getxattr " + name, Path: from, Err: err}
		}
		if err := unix.Lsetxattr(to, name, value, 0); err != nil {
			return &fs.PathError{Op: "setxattr " + name, Path: to, Err: err}
		}
	}
	return nil
}

func readXattr(path, name string) ([]byte, error) {
	for {
		size, err := unix.Lgetxattr(path, name, nil)
		if err != nil {
			return nil, err
		}
		value := make([]byte, size)
		size, err = unix.Lgetxattr(path, name, value)
		if errors.Is(err, unix.ERANGE) {
			continue // it has grown
		}
		return value[:max(size, 0)], err
	}
}

func listXattrs(path string) ([]string, error) {
	size, err := unix.Llistxattr(path, nil)
	if errors.Is(err, unix.ENOTSUP) || (err == nil && size == 0) {
		return nil, nil
	}
	buf := make([]byte, max(size, 0))
	if err == nil {
		size, err = unix.Llistxattr(path, buf)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: path, Err: err}
	}
	var names []string
	for start, i := 0, 0; i < size; i++ {
		if buf[i] == 0 {
			names = append(names, string(buf[start:i]))
			start = i + 1
		}
	}
	return names, nil
}
