package workspace

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"banger/internal/api"
)

// The largest files of a git directory that are read. They are far above what
// git writes, and keep a file that claims more from filling memory or disk.
const (
	maxSmallFile  = 64 << 10 // HEAD, a ref, commondir, …
	maxConfigFile = 8 << 20
	maxStateFile  = 64 << 20 // patches of a rebase, reflogs
	maxIndexFile  = 4 << 30
	maxPackedRefs = 2 << 30
)

// errNotRegular is the error for what is no regular file.
var errNotRegular = errors.New("not a regular file")

// openInside opens a regular file below a directory, never one that symbolic
// links lead to outside of it: what is in a repository's own directory may come
// from strangers. It doesn't wait for the other end of a pipe and touches no
// device.
func openInside(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errNotRegular
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err = f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular // it took the file's place just now
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// readFile reads a file below a directory as openInside opens it, up to limit
// bytes.
func readFile(root *os.Root, name string, limit int64) ([]byte, error) {
	f, _, err := openInside(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return data, nil
}

// readExtra reads a file that a repository can do without. It returns nil for
// one that is missing, is no regular file, or is elsewhere.
func readExtra(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open git directory: %w", err)
	}
	defer root.Close()
	if info, err := root.Stat(name); err != nil || !info.Mode().IsRegular() {
		return nil, nil
	}
	data, err := readFile(root, name, maxStateFile)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotRegular) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, name), err)
	}
	return data, nil
}

// readEssential reads a file without which a repository would be another one.
// It returns nil for one that is missing.
func readEssential(root *os.Root, name string, limit int64) ([]byte, error) {
	data, err := readFile(root, name, limit)
	if errors.Is(err, fs.ErrNotExist) && !dangling(root, name) {
		return nil, nil
	}
	if err != nil {
		return nil, badGitFile(root, name, err)
	}
	return data, nil
}

// dangling reports whether a missing file is a symbolic link to nothing.
func dangling(root *os.Root, name string) bool {
	_, err := root.Lstat(name)
	return err == nil
}

// badGitFile explains why a file of a git directory can't be read.
func badGitFile(root *os.Root, name string, err error) error {
	path := filepath.Join(root.Name(), name)
	info, statErr := root.Lstat(name)
	switch {
	case statErr == nil && info.Mode()&fs.ModeSymlink != 0:
		return api.Errorf(api.CodeInvalid, "%s is a symbolic link to something outside of the repository", path).
			WithHint("put the file itself there; for several working trees of one repository, use git worktree")
	case errors.Is(err, errNotRegular) && statErr == nil:
		return api.Errorf(api.CodeInvalid, "%s is %s where a file should be", path, kindOf(info.Mode())).
			WithHint("remove it, and see what git status says there")
	}
	return api.Errorf(api.CodeInvalid, "read %s: %v", path, err).
		WithHint("see what git status says there")
}

// kindOf says what a file is that isn't a regular one.
func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "a special file"
}
