package agent

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// rootDir is a directory tree that paths are resolved in as if it were the
// root filesystem: absolute symlinks and ".." stay inside, whatever an image
// contains. It uses openat2(2).
type rootDir struct {
	f *os.File // opened with O_PATH
}

func openRootDir(dir string) (*rootDir, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return &rootDir{os.NewFile(uintptr(fd), dir)}, nil
}

func (r *rootDir) Close() error { return r.f.Close() }

// open opens a path inside the root. Its errors are *fs.PathError.
func (r *rootDir) open(name string, flags uint64, mode fs.FileMode) (*os.File, error) {
	how := &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Mode:    uint64(mode.Perm()),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(int(r.f.Fd()), name, how)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue // EAGAIN: something was renamed meanwhile, see the manual
		case err != nil:
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// resolve returns where a path really is, without symlinks, relative to the
// root and with a leading slash.
func (r *rootDir) resolve(name string) (string, error) {
	f, err := r.open(name, unix.O_PATH, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	real, err := os.Readlink(fdPath(f))
	if err != nil {
		return "", err
	}
	base, err := os.Readlink(fdPath(r.f))
	if err != nil {
		return "", err
	}
	if base == "/" {
		return real, nil
	}
	return path.Clean("/" + strings.TrimPrefix(real, base)), nil
}

// fdPath is a path that leads to an open file, also as a mount point.
func fdPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// mkdirAll makes a directory and its missing parents and returns a handle.
func (r *rootDir) mkdirAll(name string, mode fs.FileMode) (*os.File, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY
	f, err := r.open(name, flags, 0)
	if !errors.Is(err, fs.ErrNotExist) || path.Clean("/"+name) == "/" {
		return f, err
	}
	parent, err := r.mkdirAll(path.Dir(path.Clean("/"+name)), mode)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := unix.Mkdirat(int(parent.Fd()), path.Base(name), uint32(mode.Perm())); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return r.open(name, flags, 0)
}

// readFile returns a file's content.
func (r *rootDir) readFile(name string) ([]byte, error) {
	f, err := r.open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// tempPrefix begins the names of files that writeFile hasn't finished.
const tempPrefix = ".banger-"

// writeFile replaces a file, or a symlink of that name, and makes missing
// parent directories. Nobody ever sees half of the content.
func (r *rootDir) writeFile(name string, data []byte, mode fs.FileMode) (err error) {
	dir, err := r.mkdirAll(path.Dir(path.Clean("/"+name)), 0o755)
	if err != nil {
		return err
	}
	defer dir.Close()
	temp := tempPrefix + rand.Text()
	fd, err := unix.Openat(int(dir.Fd()), temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() {
		if err != nil {
			_ = unix.Unlinkat(int(dir.Fd()), temp, 0)
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := unix.Renameat(int(dir.Fd()), temp, int(dir.Fd()), path.Base(name)); err != nil {
		return &fs.PathError{Op: "replace", Path: name, Err: err}
	}
	return nil
}

// symlink makes a symlink unless something of that name exists.
func (r *rootDir) symlink(target, name string) error {
	dir, err := r.mkdirAll(path.Dir(path.Clean("/"+name)), 0o755)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Symlinkat(target, int(dir.Fd()), path.Base(name)); err != nil && !errors.Is(err, unix.EEXIST) {
		return &fs.PathError{Op: "symlink", Path: name, Err: err}
	}
	return nil
}

// exists tells whether a path leads to something.
func (r *rootDir) exists(name string) bool {
	f, err := r.open(name, unix.O_PATH, 0)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}

// fileMode turns the permission bits of chmod(2) into a FileMode.
func fileMode(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode
}

// mountName turns a directory's path into the name of one directory.
func mountName(dir string) string {
	return strings.NewReplacer("%", "%25", "/", "%2F").Replace(strings.Trim(filepath.Clean(dir), "/"))
}
