package agent

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guest"
)

// extraction unpacks a tar stream into a directory. No entry, whatever its
// name and whatever symlinks came before it, is written outside: every parent
// is opened with openat2(2) and RESOLVE_BENEATH.
type extraction struct {
	top     *os.File
	parents map[string]*os.File // recently used directories, by their path below top
	times   []dirTime
	buf     []byte
}

// dirTime is a directory's modification time, set once nothing more is written
// into it.
type dirTime struct {
	name string
	time time.Time
}

// Limits of the extraction.
const (
	maxParents   = 64
	extractChunk = 256 << 10 // bytes copied at once
)

// newExtraction prepares to unpack into dir, which it makes if it is missing.
func newExtraction(dir string) (*extraction, error) {
	if !path.IsAbs(dir) {
		return nil, fmt.Errorf("unpack files: %q is not an absolute path", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("unpack files: %w", err)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("unpack files into %s: %w", dir, err)
	}
	return &extraction{
		top: os.NewFile(uintptr(fd), dir), parents: map[string]*os.File{}, buf: make([]byte, extractChunk),
	}, nil
}

func (x *extraction) close() {
	x.forgetParents()
	_ = x.top.Close()
}

func (x *extraction) forgetParents() {
	for name, f := range x.parents {
		_ = f.Close()
		delete(x.parents, name)
	}
}

// run unpacks the whole stream.
func (x *extraction) run(r io.Reader) error {
	stream := tar.NewReader(r)
	for {
		h, err := stream.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read tar stream: %w", err)
		}
		if err := x.entry(h, stream); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
	for i := len(x.times) - 1; i >= 0; i-- {
		if err := x.setDirTime(x.times[i]); err != nil {
			return err
		}
	}
	drain(r) // padding behind the end mark
	return nil
}

// entry unpacks one entry.
func (x *extraction) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return x.directory(name, h)
	}
	if name == "." {
		return errors.New("only a directory can be at the top")
	}
	parent, err := x.parent(path.Dir(name))
	if err != nil {
		return err
	}
	dir, base := int(parent.Fd()), path.Base(name)
	switch h.Typeflag {
	case tar.TypeReg:
		if isSparse(h) {
			return errors.New("sparse files are not supported")
		}
		return x.file(dir, base, h, content)
	case tar.TypeSymlink:
		if err := replace(dir, base, func() error { return unix.Symlinkat(h.Linkname, dir, base) }); err != nil {
			return err
		}
		return setTimes(dir, base, h.ModTime)
	case tar.TypeLink:
		return x.hardLink(dir, base, h.Linkname)
	}
	return fmt.Errorf("entries of type %q are not supported", h.Typeflag)
}

// isSparse recognizes a file that is longer than what is in the stream of it, in
// the formats of GNU tar that have no type of their own.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// cleanName turns an entry's name into a path below the top.
func cleanName(name string) (string, error) {
	clean := path.Clean("./" + strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", errors.New("the name leads out of the directory")
	}
	return clean, nil
}

// openDir opens a directory below the top.
func (x *extraction) openDir(name string) (*os.File, error) {
	fd, err := unix.Openat2(int(x.top.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.EXDEV) {
		return nil, fmt.Errorf("the directory %q leads out of the tree by a symlink", name)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// parent returns a directory below the top and makes it if it is missing.
func (x *extraction) parent(name string) (*os.File, error) {
	if f := x.parents[name]; f != nil {
		return f, nil
	}
	f, err := x.openDir(name)
	if errors.Is(err, fs.ErrNotExist) && name != "." {
		var up *os.File
		if up, err = x.parent(path.Dir(name)); err != nil {
			return nil, err
		}
		if err := unix.Mkdirat(int(up.Fd()), path.Base(name), 0o755); err != nil {
			return nil, &fs.PathError{Op: "mkdir", Path: name, Err: err}
		}
		f, err = x.openDir(name)
	}
	if err != nil {
		return nil, err
	}
	if len(x.parents) >= maxParents {
		x.forgetParents()
	}
	x.parents[name] = f
	return f, nil
}

func (x *extraction) directory(name string, h *tar.Header) error {
	if name != "." {
		parent, err := x.parent(path.Dir(name))
		if err != nil {
			return err
		}
		dir, base := int(parent.Fd()), path.Base(name)
		err = unix.Mkdirat(dir, base, 0o755)
		if errors.Is(err, unix.EEXIST) {
			err = x.keepOrReplaceDir(dir, base)
		}
		if err != nil {
			return err
		}
		if err := chmodAt(dir, base, h); err != nil {
			return err
		}
	}
	x.times = append(x.times, dirTime{name, h.ModTime})
	return nil
}

// keepOrReplaceDir makes sure that an existing name is a real directory.
func (x *extraction) keepOrReplaceDir(dir int, base string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	x.forgetParents() // one of them may have been reached by this symlink
	if err := unix.Unlinkat(dir, base, 0); err != nil {
		return err
	}
	return unix.Mkdirat(dir, base, 0o755)
}

// chmodAt sets the mode of a directory that is known not to be a symlink.
func chmodAt(dir int, base string, h *tar.Header) error {
	fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return errors.Join(unix.Fchmod(fd, uint32(h.Mode&0o777)), unix.Fchown(fd, os.Getuid(), os.Getgid()))
}

// replace makes something under a name that may be taken by something else.
func replace(dir int, base string, create func() error) error {
	err := create()
	if errors.Is(err, unix.EEXIST) {
		if err = unix.Unlinkat(dir, base, 0); err == nil {
			err = create()
		}
	}
	return err
}

// file unpacks a regular file. Set-user-ID bits are dropped: the stream comes
// from a user's files, and the owner becomes root.
func (x *extraction) file(dir int, base string, h *tar.Header, content io.Reader) error {
	var fd int
	err := replace(dir, base, func() (err error) {
		fd, err = unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if sparse, is := h.PAXRecords[guest.SparseRecord]; is {
		err = x.sparse(fd, sparse, h.Size, content)
	} else {
		err = x.copy(fd, content)
	}
	if err != nil {
		return err
	}
	if err := unix.Fchmod(fd, uint32(h.Mode&0o777)); err != nil {
		return err
	}
	return setTimes(dir, base, h.ModTime)
}

// sparse writes a file with holes.
func (x *extraction) sparse(fd int, record string, inStream int64, content io.Reader) error {
	size, pieces, err := guest.ParseSparse(record, inStream)
	if err != nil {
		return err
	}
	for _, piece := range pieces {
		if _, err := unix.Seek(fd, piece.Offset, unix.SEEK_SET); err != nil {
			return err
		}
		if err := x.copy(fd, io.LimitReader(content, piece.Length)); err != nil {
			return err
		}
	}
	return unix.Ftruncate(fd, size)
}

// copy writes all of content.
func (x *extraction) copy(fd int, content io.Reader) error {
	for {
		n, err := content.Read(x.buf)
		for written := 0; written < n; {
			w, err := unix.Write(fd, x.buf[written:n])
			if err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
			written += max(w, 0)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// hardLink links to an entry that came before.
func (x *extraction) hardLink(dir int, base, target string) error {
	name, err := cleanName(target)
	if err != nil {
		return fmt.Errorf("link to %q: %w", target, err)
	}
	from, err := x.openDir(path.Dir(name))
	if err != nil {
		return err
	}
	defer from.Close()
	return replace(dir, base, func() error {
		return unix.Linkat(int(from.Fd()), path.Base(name), dir, base, 0)
	})
}

func (x *extraction) setDirTime(d dirTime) error {
	f, err := x.openDir(path.Dir(d.name))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := setTimes(int(f.Fd()), path.Base(d.name), d.time); err != nil {
		return fmt.Errorf("set time of %q: %w", d.name, err)
	}
	return nil
}

// setTimes sets the times of a file or of a symlink itself.
func setTimes(dir int, base string, t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	return unix.UtimesNanoAt(dir, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
