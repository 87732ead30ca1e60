package recipe

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// archive is a tar of files that are unpacked into the tree by a program that
// is confined to it, so that symbolic links there can't lead out.
type archive struct{ w *tar.Writer }

func newArchive(w io.Writer) archive { return archive{tar.NewWriter(w)} }

// file adds a file that belongs to root.
func (a archive) file(path string, mode fs.FileMode, content []byte) error {
	return a.copy(path, mode, int64(len(content)), bytes.NewReader(content))
}

// copy adds a file of size bytes, which come from r.
func (a archive) copy(path string, mode fs.FileMode, size int64, r io.Reader) error {
	err := a.w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: path, Mode: int64(mode), Size: size, ModTime: time.Now(), Format: tar.FormatPAX,
	})
	if err == nil {
		_, err = io.CopyN(a.w, r, size)
	}
	if err != nil {
		return fmt.Errorf("pack %s: %w", path, err)
	}
	return nil
}

func (a archive) close() error { return a.w.Close() }
