package ext4

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger/internal/api"
)

// tool returns a command of e2fsprogs or skips the test.
func tool(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return exec.Command(path, args...)
		}
	}
	t.Skipf("%s is not installed", name)
	return nil
}

// fsck fails the test unless the file system is without a fault.
func fsck(t *testing.T, path string) {
	t.Helper()
	if out, err := tool(t, "e2fsck", "-fn", path).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

// debugfs runs one debugfs(8) request.
func debugfs(t *testing.T, path, request string) string {
	t.Helper()
	out, err := tool(t, "debugfs", "-R", request, path).Output()
	if err != nil {
		t.Fatalf("debugfs %s: %v", request, err)
	}
	return string(out)
}

func tarOf(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range entries {
		h.Format = tar.FormatPAX
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(tw, h.Name)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sampleTar(t *testing.T) []byte {
	when := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	acl := "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" +
		"\x04\x00\x05\x00\xff\xff\xff\xff" + "\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x05\x00\xff\xff\xff\xff"
	return tarOf(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755, ModTime: when},
		tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o1777, ModTime: when},
		tar.Header{Typeflag: tar.TypeReg, Name: "d/file", Mode: 0o4755, Uid: 70000, Gid: 80000, ModTime: when.Add(time.Hour)},
		tar.Header{Typeflag: tar.TypeLink, Name: "d/link", Linkname: "d/file"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "s", Linkname: strings.Repeat("t", 4000), ModTime: when},
		tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Mode: 0o660, Devmajor: 259, Devminor: 70000, ModTime: when},
		tar.Header{Typeflag: tar.TypeReg, Name: "acl", Mode: 0o755, ModTime: when,
			PAXRecords: map[string]string{xattrPrefix + aclAccess: acl, xattrPrefix + "user.u": "v"}},
	)
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rootfs.ext4")
	stream := sampleTar(t)
	opts := Options{Label: "banger-root", UUID: [16]byte{0xab, 15: 0xcd}}
	if err := Write(context.Background(), bytes.NewReader(stream), path, opts); err != nil {
		t.Fatal(err)
	}
	fsck(t, path)
	super := debugfs(t, path, "show_super_stats -h")
	for _, want := range []string{"banger-root", "ab000000-0000-0000-0000-0000000000cd", "read-only"} {
		if !strings.Contains(super, want) {
			t.Errorf("superblock lacks %q:\n%s", want, super)
		}
	}
	stat := debugfs(t, path, "stat d/file")
	for _, want := range []string{"Mode:  04755", "User: 70000", "Group: 80000", "Links: 2", "Size: 6"} {
		if !strings.Contains(stat, want) {
			t.Errorf("d/file lacks %q:\n%s", want, stat)
		}
	}
	mtime, ctime := "mtime: 0x66388fe9", "ctime: 0x66388fe9" // 2024-05-06 08:08:09 UTC; ctime isn't in the tar
	if !strings.Contains(stat, mtime) || !strings.Contains(stat, ctime) {
		t.Errorf("d/file lacks %q or %q:\n%s", mtime, ctime, stat)
	}
	if stat := debugfs(t, path, "stat disk"); !strings.Contains(stat, "259:70000") {
		t.Errorf("device: %s", stat)
	}
	if got := debugfs(t, path, "cat d/link"); got != "d/file" {
		t.Errorf("content = %q", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("image file: %v, %v", info, err)
	}
}

func TestWriteIsReproducible(t *testing.T) {
	dir := t.TempDir()
	stream := sampleTar(t)
	var images [2][]byte
	for i := range images {
		path := filepath.Join(dir, string(rune('a'+i)))
		if err := Write(context.Background(), bytes.NewReader(stream), path, Options{}); err != nil {
			t.Fatal(err)
		}
		var err error
		if images[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two images of one stream differ")
	}
	if uuid := images[0][superOffset+superUUID:][:16]; bytes.Equal(uuid, make([]byte, 16)) {
		t.Error("the file system has no UUID")
	}
}

// A tree of many inode groups, so that every bitmap gets its padding.
func TestManyGroups(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rootfs.ext4")
	const size = 1 << 30 // eight groups
	err := Create(context.Background(), path, func(w *Writer) error {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Mode: 0o644, Size: size}); err != nil {
			return err
		}
		if _, err := io.CopyN(w, zeros{}, size-4); err != nil {
			return err
		}
		_, err := io.WriteString(w, "tail")
		return err
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	fsck(t, path)
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if st.Size < size || st.Blocks*512 > 16<<20 {
		t.Errorf("the image has %d bytes and takes %d", st.Size, st.Blocks*512)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestLimits(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"name":    {Typeflag: tar.TypeReg, Name: "d/" + strings.Repeat("n", 256)},
		"parent":  {Typeflag: tar.TypeReg, Name: strings.Repeat("n", 256) + "/f"},
		"depth":   {Typeflag: tar.TypeDir, Name: strings.Repeat("d/", 300_000)},
		"user":    {Typeflag: tar.TypeReg, Name: "f", Uid: 1 << 32},
		"group":   {Typeflag: tar.TypeReg, Name: "f", Gid: 1<<32 - 1},
		"device":  {Typeflag: tar.TypeChar, Name: "f", Devmajor: 1 << 12},
		"symlink": {Typeflag: tar.TypeSymlink, Name: "s", Linkname: strings.Repeat("t", 4096)},
		"xattrs":  {Typeflag: tar.TypeReg, Name: "f", PAXRecords: map[string]string{xattrPrefix + "user.x": strings.Repeat("v", 5000)}},
		"acl":     {Typeflag: tar.TypeReg, Name: "f", PAXRecords: map[string]string{xattrPrefix + aclAccess: "no ACL"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := Write(context.Background(), bytes.NewReader(tarOf(t, h)), filepath.Join(dir, "x"), Options{})
			if !errors.Is(err, api.ErrInvalid) {
				t.Errorf("error = %v, want api.ErrInvalid", err)
			}
			assertEmpty(t, dir)
		})
	}
	big := tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: maxFile + 1}
	if err := checkLimits(&big); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("big file: %v", err)
	}
}

// A stream of nothing but names must not fill the host's memory.
func TestBoundsOfMemory(t *testing.T) {
	for name, c := range map[string]struct {
		names, metadata int64
		next            tar.Header
	}{
		"files":      {2, maxMetadata, tar.Header{Typeflag: tar.TypeReg, Name: "c"}},
		"links":      {2, maxMetadata, tar.Header{Typeflag: tar.TypeLink, Name: "c", Linkname: "a"}},
		"parents":    {4, maxMetadata, tar.Header{Typeflag: tar.TypeReg, Name: "c/d/e"}},
		"names":      {maxNames, 5, tar.Header{Typeflag: tar.TypeReg, Name: "long"}},
		"targets":    {maxNames, 5, tar.Header{Typeflag: tar.TypeSymlink, Name: "c", Linkname: "far/away"}},
		"attributes": {maxNames, 5, tar.Header{Typeflag: tar.TypeReg, Name: "c", PAXRecords: map[string]string{xattrPrefix + "user.x": "v"}}},
	} {
		w := newWriter(context.Background(), newDevice(memoryFile(t), 1, 100))
		w.namesLeft, w.metadataLeft = c.names, c.metadata
		for _, h := range []tar.Header{{Typeflag: tar.TypeReg, Name: "a"}, {Typeflag: tar.TypeDir, Name: "b"}} {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		err := w.WriteHeader(&c.next)
		if !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%s: error = %v, want api.ErrInvalid", name, err)
		}
	}
}

func TestFailuresLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "rootfs.ext4")
	stream := sampleTar(t)
	broken := errors.New("broken")
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		r    io.Reader
		opts Options
		want error
	}{
		"cut stream":  {context.Background(), bytes.NewReader(stream[:len(stream)/2]), Options{}, io.ErrUnexpectedEOF},
		"bad reader":  {context.Background(), io.MultiReader(bytes.NewReader(stream[:700]), errReader{broken}), Options{}, broken},
		"cancelled":   {cancelled, bytes.NewReader(stream), Options{}, context.Canceled},
		"small bound": {context.Background(), bytes.NewReader(stream), Options{MaxBytes: 8192}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := Write(c.ctx, c.r, path, c.opts)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error = %v, want %v", err, c.want)
			}
			assertEmpty(t, dir)
		})
	}
	err := Create(context.Background(), path, func(w *Writer) error {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: 5}); err != nil {
			return err
		}
		return broken
	}, Options{})
	if !errors.Is(err, broken) {
		t.Errorf("fill's error: got %v", err)
	}
	assertEmpty(t, dir)
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func assertEmpty(t *testing.T, dir string) {
	t.Helper()
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v (%v)", files, err)
	}
}
