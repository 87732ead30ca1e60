//go:build e2e

package oci

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// describeTree returns a line per file of all that a tar can say about it.
// Times of directories are left out: an extraction changes them later.
func describeTree(t *testing.T, root string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	first := make(map[[2]uint64]string)
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(file, root)
		if name == "/"+hostDir {
			return fs.SkipDir
		}
		var st unix.Stat_t
		if err := unix.Lstat(file, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
		case unix.S_IFLNK:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			line += " -> " + target
		case unix.S_IFREG:
			sum, err := hashFile(file)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %s", st.Size, sum)
		default:
			line += fmt.Sprintf(" %d,%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if !d.IsDir() {
			line += fmt.Sprintf(" %d.%09d links=%d", st.Mtim.Sec, st.Mtim.Nsec, st.Nlink)
			key := [2]uint64{st.Dev, st.Ino}
			if _, seen := first[key]; !seen {
				first[key] = name
			}
			line += " is " + first[key]
		}
		xattrs, err := listXattrs(file)
		if err != nil {
			return err
		}
		files[name] = line + xattrs
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func hashFile(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

func listXattrs(file string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(file, buf)
	if err != nil {
		return "", err
	}
	var lines []string
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.Trim(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		m, err := unix.Lgetxattr(file, name, value)
		if err != nil {
			return "", fmt.Errorf("get %s of %s: %w", name, file, err)
		}
		lines = append(lines, fmt.Sprintf(" %s=%x", name, value[:m]))
	}
	slices.Sort(lines) // the order is that of the file system
	return strings.Join(lines, ""), nil
}
