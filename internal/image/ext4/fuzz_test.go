package ext4

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/tartest"
)

// memoryFile returns an empty file that is nowhere on a disk.
func memoryFile(t testing.TB) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("image", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "image")
	t.Cleanup(func() { f.Close() })
	return f
}

// FuzzWrite makes images of trees with odd names, links and attributes, and
// reads them.
func FuzzWrite(f *testing.F) {
	f.Add([]byte{0, 3, 0x64, 2, 2, 0, 1, 2, 0, 0, 0, 1, 2, 2, 4, 0})
	f.Add([]byte{1, 0, 0x1f, 0xf, 1, 0, 0, 63, 0x1f, 0x8f, 2, 0, 1, 3, 0, 0, 0, 1, 2, 2, 0, 1, 6, 1, 0xff, 2, 1, 3, 0x80, 90, 9, 9, 1, 12})
	f.Add([]byte{0, 5, 0, 0, 2, 14, 1, 0, 5, 0, 0, 2, 13, 1, 0, 5, 0, 0, 1, 13})
	f.Fuzz(func(t *testing.T, program []byte) {
		entries := tartest.Entries(program[:min(len(program), 2000)])
		image := memoryFile(t)
		stream := bytes.NewReader(tartest.Tar(entries))
		err := convert(context.Background(), func(w *Writer) error { return copyTar(w, stream) }, image, Options{MaxBytes: 1 << 30})
		if err != nil {
			if !errors.Is(err, api.ErrInvalid) {
				t.Fatalf("the error is not about the tree: %v", err)
			}
			return
		}
		tree, err := readImage(image)
		if err != nil {
			t.Fatal(err)
		}
		checkTree(t, tree, stream)
	})
}

// checkTree compares an image with the archive that it was made of.
func checkTree(t *testing.T, tree map[string]*node, archive *bytes.Reader) {
	t.Helper()
	archive.Seek(0, 0)
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if err != nil {
			return
		}
		n := tree[clean(h.Name)]
		if n == nil {
			t.Fatalf("%q is not in the image", h.Name)
		}
		var content bytes.Buffer
		if _, err := content.ReadFrom(r); err != nil {
			t.Fatal(err)
		}
		switch h.Typeflag {
		case tar.TypeDir: // the last of several says what it is like
			continue
		case tar.TypeLink:
			if n != tree[clean(h.Linkname)] {
				t.Errorf("%q and %q are two files", h.Name, h.Linkname)
			}
			continue
		case tar.TypeSymlink:
			content.WriteString(h.Linkname)
		}
		if !bytes.Equal(n.content, content.Bytes()) {
			t.Errorf("%q has %d bytes, %d of them are right", h.Name, len(n.content), content.Len())
		}
		if int(n.uid) != h.Uid || int(n.gid) != h.Gid || n.mode&typeMask != inodeTypes[h.Typeflag] {
			t.Errorf("%q is of %d:%d and has the mode %o", h.Name, n.uid, n.gid, n.mode)
		}
		for key, want := range h.PAXRecords {
			name, ok := strings.CutPrefix(key, xattrPrefix)
			if _, known := newXattr(name, ""); !ok || !known || strings.HasPrefix(name, "system.") {
				continue
			}
			if got, ok := n.xattrs[name]; !ok || got != want {
				t.Errorf("%q has the attribute %q of %d bytes, want %d", h.Name, name, len(got), len(want))
			}
		}
	}
}

// FuzzStream reads archives that no program has written.
func FuzzStream(f *testing.F) {
	f.Add(tartest.Tar(tartest.Entries([]byte{0, 3, 0x64, 2, 2, 0, 1, 2, 0, 0, 0, 1, 2, 2, 4, 0})))
	f.Fuzz(func(t *testing.T, data []byte) {
		image := memoryFile(t)
		stream := bytes.NewReader(tartest.Checksums(data))
		err := convert(context.Background(), func(w *Writer) error { return copyTar(w, stream) }, image, Options{MaxBytes: 1 << 26})
		if err != nil {
			return
		}
		if _, err := readImage(image); err != nil {
			t.Fatal(err)
		}
	})
}

// The reader of the fuzz tests must know a good image from a bad one.
func TestReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rootfs.ext4")
	if err := Write(context.Background(), bytes.NewReader(sampleTar(t)), path, Options{}); err != nil {
		t.Fatal(err)
	}
	fsck(t, path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tree, err := readImage(f)
	if err != nil {
		t.Fatal(err)
	}
	checkTree(t, tree, bytes.NewReader(sampleTar(t)))
	if tree["acl"].xattrs["user.u"] != "v" || tree["d/link"] != tree["d/file"] {
		t.Errorf("got %+v", tree)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, n := range tree {
		if n.mode&typeMask != typeDir {
			continue
		}
		at := bytes.Index(good, n.content)
		for _, offset := range []int{0, 4, 6, 7, direntSize + 4} {
			if _, err := f.WriteAt([]byte{good[at+offset] ^ 0x55}, int64(at+offset)); err != nil {
				t.Fatal(err)
			}
			if _, err := readImage(f); err != nil {
				found++
			}
			if _, err := f.WriteAt(good[at+offset:][:1], int64(at+offset)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if found != 10 {
		t.Errorf("%d of 10 faults were found", found)
	}
}
