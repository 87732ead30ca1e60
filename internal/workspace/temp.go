package workspace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// tempPrefix begins the names of temporary directories.
const tempPrefix = "banger-workspace-"

// tempDir is where the history is packed: TMPDIR if set, else /var/tmp, which
// unlike /tmp is not in memory on many systems.
func tempDir() string {
	if dir := os.Getenv("TMPDIR"); dir != "" {
		return dir
	}
	if info, err := os.Stat("/var/tmp"); err == nil && info.IsDir() {
		return "/var/tmp"
	}
	return os.TempDir()
}

// makeTemp makes a temporary directory. It is locked for as long as this process
// lives and has not called remove, by which RemoveStale knows that it is needed.
func makeTemp() (dir string, remove func(), err error) {
	for {
		dir, err := os.MkdirTemp(tempDir(), tempPrefix)
		if err != nil {
			return "", nil, fmt.Errorf("create a temporary directory: %w", err)
		}
		lock, err := lockTemp(dir)
		if errors.Is(err, errTaken) {
			continue // another bangerd takes it for one that was left behind
		}
		if err != nil {
			return "", nil, errors.Join(err, os.RemoveAll(dir))
		}
		return dir, func() {
			_ = os.RemoveAll(dir) // the next RemoveStale tries again
			_ = unix.Close(lock)
		}, nil
	}
}

// errTaken says that somebody else has a temporary directory, or had it until he
// removed it.
var errTaken = errors.New("the temporary directory is another process's")

// lockTemp locks a directory of the user's own, until the returned descriptor is
// closed.
func lockTemp(dir string) (fd int, err error) {
	fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return -1, errTaken
	}
	if err != nil {
		return -1, fmt.Errorf("lock temporary directory %s: %w", dir, err)
	}
	var opened, named unix.Stat_t
	err = unix.Fstat(fd, &opened)
	if err == nil && int(opened.Uid) != os.Geteuid() {
		err = errTaken
	}
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = unix.Lstat(dir, &named)
	}
	if err == nil && opened.Dev == named.Dev && opened.Ino == named.Ino {
		return fd, nil
	}
	_ = unix.Close(fd)
	if err == nil || errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.ENOENT) || errors.Is(err, errTaken) {
		return -1, errTaken
	}
	return -1, fmt.Errorf("lock temporary directory %s: %w", dir, err)
}

// RemoveStale removes the temporary directories of this user's that a process has
// left which was killed.
func RemoveStale() error {
	dirs, err := filepath.Glob(filepath.Join(tempDir(), tempPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for temporary directories: %w", err)
	}
	var errs []error
	for _, dir := range dirs {
		lock, err := lockTemp(dir)
		if errors.Is(err, errTaken) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // in use, or another user's
		}
		if err == nil {
			err = errors.Join(os.RemoveAll(dir), unix.Close(lock))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
