package agent

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// entryName is a file's name in the archive: without a leading slash.
func entryName(name string) string {
	if name == "/" {
		return "./"
	}
	return strings.TrimPrefix(name, "/")
}

// newHeader describes a file for the archive. at is a path to the file whose
// last part isn't followed if it is a symlink. Owners are numbers.
func newHeader(name, at string, st *unix.Stat_t) (*tar.Header, error) {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: entryName(name), Mode: int64(st.Mode & 0o7777),
		Uid: int(st.Uid), Gid: int(st.Gid), ModTime: time.Unix(st.Mtim.Unix()),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		h.Name = strings.TrimSuffix(h.Name, "/") + "/"
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return nil, fmt.Errorf("archive %s: it is of the unknown type %#o", name, st.Mode&unix.S_IFMT)
	}
	var err error
	if h.PAXRecords, err = xattrRecords(at); err != nil {
		return nil, fmt.Errorf("archive %s: %w", name, err)
	}
	return h, nil
}

// xattrRecords returns a file's extended attributes as PAX records, nil if there
// are none. Those that the root's overlay keeps for itself are not among them:
// the kernel hides them.
func xattrRecords(at string) (map[string]string, error) {
	names, err := listXattrs(at)
	if err != nil {
		return nil, err
	}
	var records map[string]string
	for _, name := range names {
		if strings.Contains(name, "=") {
			continue // a PAX record can't have such a name
		}
		value, err := readXattr(at, name)
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue // removed meanwhile, or one that is only listed
		}
		if err != nil {
			return nil, &fs.PathError{Op: "getxattr " + name, Path: at, Err: err}
		}
		if records == nil {
			records = map[string]string{}
		}
		records[xattrRecord+name] = string(value)
	}
	return records, nil
}
