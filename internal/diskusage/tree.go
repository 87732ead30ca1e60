// Package diskusage tells what banger takes on the host's disk, and what of it
// could be had back.
package diskusage

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
)

// blockSize is the unit of st_blocks, stat(2).
const blockSize = 512

// Tree returns the bytes that are allocated for the files and directories at
// and below path: holes take none, hard links count once. What vanishes
// meanwhile, or isn't there, counts nothing.
func Tree(path string) (int64, error) {
	type inode struct{ dev, ino uint64 }
	seen := make(map[inode]bool)
	var bytes int64
	err := filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				if st, ok := info.Sys().(*syscall.Stat_t); ok && !seen[inode{st.Dev, st.Ino}] {
					seen[inode{st.Dev, st.Ino}] = true
					bytes += st.Blocks * blockSize
				}
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return bytes, err
}
