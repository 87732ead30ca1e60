package recipe

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"banger/internal/image/ext4"

	"golang.org/x/sys/unix"
)

// writeExt4 makes the file system dst of a tree. Entries are in the order of
// their names, and no time is after epoch, so that the result depends on the
// content only.
func writeExt4(ctx context.Context, tree, dst string, epoch time.Time) error {
	fill := func(w *ext4.Writer) error {
		t := treeWriter{root: tree, epoch: epoch, w: w, linked: make(map[fileID]string), buf: make([]byte, 256<<10)}
		return filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return t.add(path, d)
		})
	}
	if err := ext4.Create(ctx, dst, fill, ext4.Options{Label: label, Time: epoch}); err != nil {
		return fmt.Errorf("make the file system %s: %w", filepath.Base(dst), err)
	}
	return nil
}

// fileID tells files from each other.
type fileID struct{ dev, ino uint64 }

// treeWriter writes the entries of a tree.
type treeWriter struct {
	root   string
	epoch  time.Time
	w      *ext4.Writer
	linked map[fileID]string // names of the files that have several
	buf    []byte
}

func (t *treeWriter) add(path string, d fs.DirEntry) error {
	rel, err := filepath.Rel(t.root, path)
	if err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner is unknown", rel)
	}
	if info.Mode().Type() == fs.ModeSocket {
		return nil // nobody listens to it any more
	}
	if st.Nlink > 1 && !d.IsDir() {
		id := fileID{st.Dev, st.Ino}
		if first, ok := t.linked[id]; ok {
			return t.w.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: rel, Linkname: first, ModTime: t.time(info)})
		}
		t.linked[id] = rel
	}
	hdr, err := t.header(path, rel, info, st)
	if err != nil {
		return err
	}
	if err := t.w.WriteHeader(hdr); err != nil {
		return err
	}
	if hdr.Size == 0 {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	// Without WriteTo, which would make a buffer for every file.
	if _, err := io.CopyBuffer(t.w, struct{ io.Reader }{f}, t.buf); err != nil {
		return fmt.Errorf("copy %s: %w", rel, err)
	}
	return nil
}

// header describes a file as it is seen here: owner, mode, attributes.
func (t *treeWriter) header(path, rel string, info fs.FileInfo, st *syscall.Stat_t) (*tar.Header, error) {
	target := ""
	if info.Mode().Type() == fs.ModeSymlink {
		var err error
		if target, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	hdr, err := tar.FileInfoHeader(info, target) // devices, FIFOs, set-id bits
	if err != nil {
		return nil, err
	}
	hdr.Name, hdr.ModTime = rel, t.time(info)
	hdr.AccessTime, hdr.ChangeTime = time.Time{}, time.Time{} // of the host
	hdr.Uid, hdr.Gid = int(st.Uid), int(st.Gid)
	if info.IsDir() {
		hdr.Name += "/"
	}
	hdr.PAXRecords, err = attributes(path)
	return hdr, err
}

// time returns a file's modification time, or the epoch if that is earlier.
func (t *treeWriter) time(info fs.FileInfo) time.Time {
	if info.ModTime().After(t.epoch) {
		return t.epoch
	}
	return info.ModTime()
}

// attributes returns a file's extended attributes as a tar's records.
func attributes(path string) (map[string]string, error) {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the attributes of %s: %w", path, err)
	}
	records := make(map[string]string)
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		size, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("read the attribute %s of %s: %w", name, path, err)
		}
		records["SCHILY.xattr."+name] = string(value[:size])
	}
	return records, nil
}
