package bundle

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// outFile is a file that gets its name when it is complete.
type outFile struct {
	f    *os.File
	path string
	temp string // the file's name until then; "" if it has none
}

// createFile begins a file. Where the file system can do that, the file has no
// name, so that nothing is left of it however this process dies.
func createFile(path string) (*outFile, error) {
	dir := filepath.Dir(path)
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err == nil {
		return &outFile{f: os.NewFile(uintptr(fd), path), path: path}, nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return nil, &fs.PathError{Op: "create a file in", Path: dir, Err: err}
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*.partial")
	if err != nil {
		return nil, err
	}
	o := &outFile{f: f, path: path, temp: f.Name()}
	if err := f.Chmod(0o644); err != nil {
		o.discard()
		return nil, err
	}
	return o, nil
}

// commit flushes the file to disk and gives it its name.
func (o *outFile) commit() error {
	if err := o.f.Sync(); err != nil {
		return err
	}
	if o.temp == "" {
		done, err := o.link()
		if done || err != nil {
			return err
		}
	}
	if err := os.Rename(o.temp, o.path); err != nil {
		return err
	}
	o.temp = ""
	return syncDir(filepath.Dir(o.path))
}

// link names a file without a name. If the name is taken, the file gets a
// temporary one instead, and link returns false.
func (o *outFile) link() (done bool, err error) {
	err = o.linkTo(o.path)
	if err == nil {
		return true, syncDir(filepath.Dir(o.path))
	}
	if !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	temp := filepath.Join(filepath.Dir(o.path), fmt.Sprintf(".%s-%s.partial", filepath.Base(o.path), rand.Text()))
	if err := o.linkTo(temp); err != nil {
		return false, err
	}
	o.temp = temp
	return false, nil
}

func (o *outFile) linkTo(path string) error {
	source := fmt.Sprintf("/proc/self/fd/%d", o.f.Fd())
	err := unix.Linkat(unix.AT_FDCWD, source, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &fs.PathError{Op: "create", Path: path, Err: err}
	}
	return nil
}

// discard ends the work on the file, which is gone afterwards unless it was
// committed.
func (o *outFile) discard() {
	o.f.Close()
	if o.temp != "" {
		os.Remove(o.temp)
	}
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
