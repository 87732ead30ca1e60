package ext4

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"banger/internal/api"
)

// writeEntries makes an image of entries and reads it. The tree is nil if they
// can't be one.
func writeEntries(t *testing.T, entries []tar.Header) map[string]*node {
	t.Helper()
	image := memoryFile(t)
	fill := func(w *Writer) error {
		for i := range entries {
			if err := w.WriteHeader(&entries[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := convert(context.Background(), fill, image, Options{MaxBytes: 1 << 30}); err != nil {
		if !errors.Is(err, api.ErrInvalid) {
			t.Fatalf("the error is not about the tree: %v", err)
		}
		return nil
	}
	tree, err := readImage(image)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// FuzzDirectory makes directories of names of all lengths, which fill blocks in
// one way or another. A byte is a name's length, and whether it is a directory's.
func FuzzDirectory(f *testing.F) {
	f.Add([]byte{1, 2, 3, 255, 254, 253, 128, 127, 4, 0})
	f.Add([]byte(strings.Repeat("\xf8", 40)))
	f.Add([]byte(strings.Repeat("\x04\xfb", 200)))
	f.Fuzz(func(t *testing.T, lengths []byte) {
		var entries []tar.Header
		for i, n := range lengths[:min(len(lengths), 1000)] {
			name := fmt.Sprintf("%x", i)
			name += strings.Repeat("\xff", max(0, int(n)-len(name)))
			typ := byte(tar.TypeReg)
			if n&1 == 0 {
				typ = tar.TypeDir
			}
			entries = append(entries, tar.Header{Typeflag: typ, Name: "d/" + name})
		}
		tree := writeEntries(t, entries)
		if tree == nil {
			t.Fatal("the tree was refused")
		}
		for _, e := range entries {
			if n := tree[e.Name]; n == nil || n.mode&typeMask != inodeTypes[e.Typeflag] {
				t.Errorf("%q is %+v", e.Name, n)
			}
		}
		maps.DeleteFunc(tree, func(name string, _ *node) bool { return !strings.HasPrefix(name, "d/") })
		if len(tree) != len(entries) {
			t.Errorf("%d names became %d", len(entries), len(tree))
		}
	})
}

// FuzzXattrs gives a file attributes of any names and values. They come as a
// byte for what the name starts with, one for the length of its rest, two for
// that of the value, and these themselves.
func FuzzXattrs(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x03avvv\x02\x02\x00\x00bb\x04\x10\x00\x04capability......val."))
	f.Add([]byte("\x01\x00\x00\x0c\x02\x00\x00\x00\x02\x00\x04\x00\xe8\x03\x00\x00\x05\x00\x00\x01x"))
	f.Add([]byte("\x00\x01\x0e\xffa" + strings.Repeat("v", 0xeff)))
	f.Add([]byte("\x00\xff\x00\x00" + strings.Repeat("n", 255)))
	prefixes := []string{"user.", aclAccess, "trusted.", aclDefault, "security.", "strange.", ""}
	f.Fuzz(func(t *testing.T, data []byte) {
		wanted := map[string]string{}
		records := map[string]string{}
		for len(data) >= 4 {
			prefix, nameLen, size := prefixes[int(data[0])%len(prefixes)], int(data[1]), int(data[2])<<8|int(data[3])
			data = data[4:]
			name := prefix + string(data[:min(nameLen, len(data))])
			data = data[min(nameLen, len(data)):]
			value := string(data[:min(size, len(data))])
			data = data[min(size, len(data)):]
			records[xattrPrefix+name] = value
			if _, known := newXattr(name, value); known {
				wanted[name] = value
			}
		}
		tree := writeEntries(t, []tar.Header{{Typeflag: tar.TypeReg, Name: "f", PAXRecords: records}})
		if tree == nil {
			return
		}
		got := tree["f"].xattrs
		if len(got) != len(wanted) {
			t.Errorf("%d attributes became %d", len(wanted), len(got))
		}
		for name, value := range wanted {
			if name == aclAccess || name == aclDefault {
				continue // stored in another form
			}
			if stored, ok := got[name]; !ok || stored != value {
				t.Errorf("the attribute %q of %d bytes has %d (%v)", name, len(value), len(stored), ok)
			}
		}
	})
}
