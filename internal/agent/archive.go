package agent

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// archive writes a root filesystem that is in use as a tar stream. Nothing is
// opened by a path with more than one part to resolve, so that a directory that
// is replaced by a symlink meanwhile leads nowhere else.
type archive struct {
	tw    *tar.Writer
	rules *archiveRules
	trees map[string]*os.File // other filesystems in the tree, by their place
	links map[inode]linkTarget
	buf   []byte
}

// linkTarget is the first name of a file with several. The rest tells it from
// another file that got its inode number meanwhile.
type linkTarget struct {
	name  string
	size  int64
	mtime unix.Timespec
}

// archiveChunk is how many bytes are copied at once.
const archiveChunk = 256 << 10

// xattrRecord is the prefix of PAX records with extended attributes, as GNU tar,
// bsdtar and container images have them.
const xattrRecord = "SCHILY.xattr."

// writeArchive writes the tree at root, with other filesystems in place of some
// of its directories, to w. Files that vanish meanwhile are left out.
func writeArchive(w io.Writer, root *os.File, trees map[string]*os.File, rules *archiveRules) error {
	a := &archive{
		tw: tar.NewWriter(w), rules: rules, trees: trees, links: map[inode]linkTarget{}, buf: make([]byte, archiveChunk),
	}
	if err := a.directory("/", root); err != nil {
		return err
	}
	return a.tw.Close()
}

// directory writes a directory and all below it.
func (a *archive) directory(name string, dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	h, err := newHeader(name, fdPath(dir)+"/.", &st)
	if err != nil {
		return err
	}
	if err := a.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	if a.rules.isEmptied(name) {
		return nil
	}
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	slices.SortFunc(entries, func(x, y os.DirEntry) int { return strings.Compare(x.Name(), y.Name()) })
	for _, entry := range entries {
		if err := a.entry(path.Join(name, entry.Name()), dir); err != nil {
			return err
		}
	}
	return nil
}

// entry writes one name of a directory, if it is still there.
func (a *archive) entry(name string, parent *os.File) error {
	err := a.entryNow(name, parent)
	// ESTALE: overlayfs says so of a file that has gone.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESTALE) {
		return nil
	}
	return err
}

func (a *archive) entryNow(name string, parent *os.File) error {
	if tree, ok := a.trees[name]; ok {
		return a.directory(name, tree)
	}
	base := path.Base(name)
	var st unix.Stat_t
	if err := unix.Fstatat(int(parent.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if a.rules.isLeftOut(name, &st) {
		return nil
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK: // it belongs to a process
		return nil
	case unix.S_IFDIR:
		dir, err := openAt(parent, name, unix.O_DIRECTORY)
		if err != nil {
			return changed(err)
		}
		defer dir.Close()
		return a.directory(name, dir)
	case unix.S_IFREG:
		return a.file(name, parent)
	}
	return a.other(name, parent, &st)
}

// changed makes it vanished what is no longer what it was.
func changed(err error) error {
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENXIO) {
		return fs.ErrNotExist
	}
	return err
}

func openAt(parent *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(parent.Fd()), path.Base(name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOATIME|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// file writes a regular file.
func (a *archive) file(name string, parent *os.File) error {
	f, err := openAt(parent, name, 0)
	if err != nil {
		return changed(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fs.ErrNotExist // it is something else by now
	}
	h, err := newHeader(name, fdPath(parent)+"/"+path.Base(name), &st)
	if err != nil {
		return err
	}
	if edit := a.rules.edit(name); edit != nil {
		return a.edited(h, f, edit)
	}
	if first, ok := a.firstName(name, &st); ok {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		return a.header(h)
	}
	if err := a.header(h); err != nil {
		return err
	}
	return a.content(h, f)
}

// edited writes a file with another content than it has; none leaves it out.
func (a *archive) edited(h *tar.Header, f *os.File, edit func(string) (string, bool)) error {
	old, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("archive %s: %w", h.Name, err)
	}
	content, keep := edit(string(old))
	if !keep {
		return nil
	}
	h.Size = int64(len(content))
	if err := a.header(h); err != nil {
		return err
	}
	_, err = io.WriteString(a.tw, content)
	return err
}

// firstName returns under which name a file with several is in the archive, or
// notes that this one will be.
func (a *archive) firstName(name string, st *unix.Stat_t) (string, bool) {
	if st.Nlink < 2 {
		return "", false
	}
	id := inode{st.Dev, st.Ino}
	target := linkTarget{entryName(name), st.Size, st.Mtim}
	first, ok := a.links[id]
	if ok && first.size == target.size && first.mtime == target.mtime {
		return first.name, true
	}
	a.links[id] = target
	return "", false
}

// content copies as many bytes as the header says: what a growing file got later
// is left out, what a shrinking one lost is zeros.
func (a *archive) content(h *tar.Header, f *os.File) error {
	for left := h.Size; left > 0; {
		n, err := f.Read(a.buf[:min(left, archiveChunk)])
		if n == 0 && errors.Is(err, io.EOF) {
			n, err = int(min(left, archiveChunk)), nil
			clear(a.buf[:n])
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("archive %s: %w", h.Name, err)
		}
		if _, err := a.tw.Write(a.buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// other writes a symlink, a device or a pipe.
func (a *archive) other(name string, parent *os.File, st *unix.Stat_t) error {
	at := fdPath(parent) + "/" + path.Base(name)
	h, err := newHeader(name, at, st)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeSymlink {
		if h.Linkname, err = os.Readlink(at); errors.Is(err, syscall.EINVAL) {
			return fs.ErrNotExist // it is something else by now
		} else if err != nil {
			return err
		}
	}
	if first, ok := a.firstName(name, st); ok {
		h.Typeflag, h.Linkname = tar.TypeLink, first
	}
	return a.header(h)
}

func (a *archive) header(h *tar.Header) error {
	if err := a.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("archive %s: %w", h.Name, err)
	}
	return nil
}
