package openssh

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// likeOld gives a new file the mode and owner of the one that it is to replace,
// or mode if there is none.
func likeOld(f *os.File, old string, mode fs.FileMode) error {
	info, err := os.Lstat(old)
	if errors.Is(err, fs.ErrNotExist) {
		return f.Chmod(mode)
	}
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() {
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
		mode = info.Mode().Perm()
	}
	return f.Chmod(mode)
}
