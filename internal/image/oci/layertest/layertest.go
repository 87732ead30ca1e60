// Package layertest makes layers of OCI images for tests, correct and wrong
// ones.
package layertest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Time is the modification time of entries that don't have their own.
var Time = time.Date(2024, 2, 3, 4, 5, 6, 789_000_000, time.UTC)

// Dir returns the entry of a directory.
func Dir(name string, mode int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}
}

// Symlink returns the entry of a symbolic link.
func Symlink(name, target string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}
}

// Link returns the entry of a hard link.
func Link(name, target string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
}

// Node returns the entry of a device or a fifo.
func Node(name string, typ byte, major, minor int64) *tar.Header {
	return &tar.Header{Typeflag: typ, Name: name, Mode: 0o660, Devmajor: major, Devminor: minor}
}

// File is a regular file; Header may be changed before it goes into Tar.
type File struct {
	tar.Header
	Content string
}

// Reg returns a regular file.
func Reg(name, content string) *File {
	return &File{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, Content: content}
}

// Owned sets a file's owner and mode.
func (f *File) Owned(uid, gid int, mode int64) *File {
	f.Uid, f.Gid, f.Mode = uid, gid, mode
	return f
}

// Xattr adds an extended attribute to an entry.
func Xattr(h *tar.Header, name, value string) *tar.Header {
	if h.PAXRecords == nil {
		h.PAXRecords = make(map[string]string)
	}
	h.PAXRecords["SCHILY.xattr."+name] = value
	return h
}

// Xattr adds an extended attribute.
func (f *File) Xattr(name, value string) *File {
	Xattr(&f.Header, name, value)
	return f
}

// Whiteout returns the marker that hides name.
func Whiteout(name string) *File {
	dir, base := filepath.Split(name)
	return Reg(dir+".wh."+base, "")
}

// Opaque returns the marker that hides what is below a directory.
func Opaque(dir string) *File { return Reg(dir+"/.wh..wh..opq", "") }

// Tar writes entries, each a *File or a *tar.Header, in order.
func Tar(t testing.TB, entries ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range entries {
		var content string
		var h tar.Header
		switch e := e.(type) {
		case *File:
			h, content = e.Header, e.Content
		case *tar.Header:
			h = *e
		default:
			t.Fatalf("entry of type %T", e)
		}
		h.Size = int64(len(content))
		h.Format = tar.FormatPAX
		if h.ModTime.IsZero() {
			h.ModTime = Time
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatalf("write header of %q: %v", h.Name, err)
		}
		if _, err := io.WriteString(tw, content); err != nil {
			t.Fatalf("write %q: %v", h.Name, err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Gzip compresses data.
func Gzip(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	return closeInto(t, &b, w, data)
}

// Zstd compresses data.
func Zstd(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	return closeInto(t, &b, w, data)
}

func closeInto(t testing.TB, b *bytes.Buffer, w io.WriteCloser, data []byte) []byte {
	t.Helper()
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Digest returns the digest of data as OCI writes it.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// WriteFile puts data into a new file of the test.
func WriteFile(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "layer")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// List describes every entry of a tar stream in a line, in order.
func List(t testing.TB, r io.Reader) string {
	t.Helper()
	var b strings.Builder
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatalf("read the tar: %v", err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatalf("read %q: %v", h.Name, err)
		}
		describe(&b, h, string(content))
	}
}

// describe writes a line such as "f 644 0:0 etc/hostname "host"".
func describe(b *strings.Builder, h *tar.Header, content string) {
	name := h.Name
	if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }) {
		name = fmt.Sprintf("%+q", name)
	}
	switch h.Typeflag {
	case tar.TypeLink:
		fmt.Fprintf(b, "h %s = %s\n", name, h.Linkname)
		return
	case tar.TypeSymlink:
		fmt.Fprintf(b, "l %d:%d %s -> %s", h.Uid, h.Gid, name, h.Linkname)
	case tar.TypeDir:
		fmt.Fprintf(b, "d %o %d:%d %s", h.Mode, h.Uid, h.Gid, name)
	case tar.TypeChar, tar.TypeBlock:
		fmt.Fprintf(b, "%s %o %d:%d %s %d,%d", map[byte]string{tar.TypeChar: "c", tar.TypeBlock: "b"}[h.Typeflag],
			h.Mode, h.Uid, h.Gid, name, h.Devmajor, h.Devminor)
	case tar.TypeFifo:
		fmt.Fprintf(b, "p %o %d:%d %s", h.Mode, h.Uid, h.Gid, name)
	default:
		fmt.Fprintf(b, "f %o %d:%d %s %q", h.Mode, h.Uid, h.Gid, name, content)
	}
	for _, key := range sortedXattrs(h) {
		fmt.Fprintf(b, " %s=%q", strings.TrimPrefix(key, "SCHILY.xattr."), h.PAXRecords[key])
	}
	b.WriteByte('\n')
}

func sortedXattrs(h *tar.Header) []string {
	var keys []string
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
