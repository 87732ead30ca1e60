package ext4

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"
	"time"

	"banger/internal/api"
)

// What ext4 with 4 KiB blocks, as tar2ext4 writes it, can hold.
const (
	maxName    = 255
	maxSymlink = 4095
	// maxFile is less than the 340 extents of 128 MiB from which on tar2ext4
	// would need a second extent block, which it fills wrongly.
	maxFile = 40 << 30
	// maxXattrs is a block less its header and end mark; every attribute
	// takes xattrEntry and its name and value.
	maxXattrs  = 4096 - 32 - 4
	xattrEntry = 16
)

// xattrPrefix is how tar files carry extended attributes, an extension of the
// tar by Jörg Schilling that is the common form.
const xattrPrefix = "SCHILY.xattr."

// Writer takes a tree, entry by entry, like a tar.Writer, and makes the entries
// fit for ext4.
type Writer struct {
	tw      *tar.Writer
	headers hash.Hash // of all headers
	latest  time.Time // of all modification times, not before 1970
}

func newWriter(w io.Writer) *Writer {
	return &Writer{tw: tar.NewWriter(w), headers: sha256.New(), latest: time.Unix(0, 0)}
}

// WriteHeader begins an entry, as that of tar.Writer does. It doesn't change
// hdr.
func (w *Writer) WriteHeader(hdr *tar.Header) error {
	out, err := fit(hdr)
	if err != nil {
		return err
	}
	if out.ModTime.After(w.latest) {
		w.latest = out.ModTime
	}
	hashHeader(w.headers, out)
	if err := w.tw.WriteHeader(out); err != nil {
		return fmt.Errorf("write %q: %w", hdr.Name, err)
	}
	return nil
}

// Write adds to the contents of the current file.
func (w *Writer) Write(p []byte) (int, error) { return w.tw.Write(p) }

// copyTar writes the entries of a tar stream.
func copyTar(w *Writer, r io.Reader) error {
	tr := tar.NewReader(bufio.NewReaderSize(r, copySize))
	buf := make([]byte, copySize)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("read the tar stream: %w", err)
		}
		if err := w.WriteHeader(hdr); err != nil {
			return err
		}
		if _, err := io.CopyBuffer(w, tr, buf); err != nil {
			return fmt.Errorf("copy %q: %w", hdr.Name, err)
		}
	}
}

// copySize is the unit of copying.
const copySize = 128 << 10

// fit returns the header that tar2ext4 needs to see for hdr.
func fit(hdr *tar.Header) (*tar.Header, error) {
	if err := checkLimits(hdr); err != nil {
		return nil, err
	}
	out := &tar.Header{
		Typeflag: hdr.Typeflag,
		Name:     hdr.Name,
		Linkname: hdr.Linkname,
		Size:     hdr.Size,
		Mode:     hdr.Mode,
		Uid:      hdr.Uid,
		Gid:      hdr.Gid,
		ModTime:  hdr.ModTime,
		// Without these, tar2ext4 writes 1970.
		AccessTime: hdr.AccessTime,
		ChangeTime: hdr.ChangeTime,
		Devmajor:   hdr.Devmajor,
		Devminor:   hdr.Devminor,
		Format:     tar.FormatPAX,
	}
	if out.Typeflag == tar.TypeGNUSparse || out.Typeflag == tar.TypeCont {
		out.Typeflag = tar.TypeReg // the reader has put the holes back
	}
	if out.AccessTime.IsZero() {
		out.AccessTime = hdr.ModTime
	}
	if out.ChangeTime.IsZero() {
		out.ChangeTime = hdr.ModTime
	}
	space := 0
	for key, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok {
			continue
		}
		if name == aclAccess || name == aclDefault {
			acl, err := diskACL([]byte(value))
			if err != nil {
				return nil, api.Errorf(api.CodeInvalid, "%q has a bad access control list: %v", hdr.Name, err)
			}
			value = string(acl)
		}
		if space += len(name) + len(value) + xattrEntry; space > maxXattrs {
			return nil, api.Errorf(api.CodeInvalid, "%q has more extended attributes than the %d bytes that ext4 can hold",
				hdr.Name, maxXattrs)
		}
		if out.PAXRecords == nil {
			out.PAXRecords = make(map[string]string)
		}
		out.PAXRecords[key] = value
	}
	return out, nil
}

func checkLimits(hdr *tar.Header) error {
	switch base := path.Base(hdr.Name); {
	case len(base) > maxName:
		return api.Errorf(api.CodeInvalid, "the name %.40q… has %d bytes; ext4 allows %d", base, len(base), maxName)
	case hdr.Typeflag == tar.TypeSymlink && len(hdr.Linkname) > maxSymlink:
		return api.Errorf(api.CodeInvalid, "the target of the symbolic link %q has %d bytes; ext4 allows %d",
			hdr.Name, len(hdr.Linkname), maxSymlink)
	case hdr.Typeflag == tar.TypeSymlink && hdr.Linkname == "":
		return api.Errorf(api.CodeInvalid, "the symbolic link %q has no target", hdr.Name)
	case hdr.Size > maxFile:
		return api.Errorf(api.CodeInvalid, "the file %q has %d GiB; images can hold files of %d GiB",
			hdr.Name, hdr.Size>>30, int64(maxFile)>>30)
	}
	return nil
}

// hashHeader adds what tells one tree from another, contents aside.
func hashHeader(w hash.Hash, hdr *tar.Header) {
	w.Write([]byte(hdr.Name))
	w.Write([]byte{0, hdr.Typeflag})
	w.Write([]byte(hdr.Linkname))
	for _, n := range []int64{hdr.Size, hdr.Mode, int64(hdr.Uid), int64(hdr.Gid), hdr.ModTime.UnixNano()} {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], uint64(n))
		w.Write(b[:])
	}
}
