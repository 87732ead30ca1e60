package flatten

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"path"
	"strings"
	"testing"

	"banger/internal/api"
	lt "banger/internal/image/oci/layertest"
	"banger/internal/tartest"
)

// A short path through symbolic links may stand for thousands of directories,
// each to be made or walked through.
func TestBoundsOfWork(t *testing.T) {
	long := strings.Repeat("d/", 2000)
	dir := func() *inode { return &inode{typ: tar.TypeDir} }
	for name, work := range map[string]func(t *tree) error{
		"directories that no layer lists": func(t *tree) error { return t.add(0, strings.Repeat("d/", 20), dir()) },
		"links to directories to be made": func(t *tree) error { return t.add(0, "far/f", dir()) },
		"added through links":             func(t *tree) error { return t.add(0, "chain/..", dir()) },
		"linked through links":            func(t *tree) error { return t.link(0, "new", "chain/f") },
		"whiteouts through links":         func(t *tree) error { return t.whiteout(0, "chain/f") },
		"opaque through links":            func(t *tree) error { return t.opaque(0, "chain/f") },
	} {
		b := newBudget(math.MaxInt64)
		tree := newTree(b)
		for base, target := range map[string]string{"far": long, "chain": strings.Repeat("a/../", 800) + "near", "near": ".", "a": "."} {
			if err := tree.add(0, base, &inode{typ: tar.TypeSymlink, target: target}); err != nil {
				t.Fatal(err)
			}
		}
		b.entries.Store(10)
		b.walked.Store(4000)
		var bad *badLayerError
		if err := work(tree); !errors.As(err, &bad) || !bad.spent {
			t.Errorf("%s: error = %v", name, err)
		}
	}
}

// What all layers together unpack to is bounded, not only each of them.
func TestManyBigLayers(t *testing.T) {
	var tars [][]byte
	for _, base := range []string{"a", "b", "c"} {
		// Behind the end, where no file counts it.
		tars = append(tars, append(lt.Tar(t, lt.Reg(base, "")), make([]byte, 1<<20)...))
	}
	_, err := Layers(context.Background(), layersOf(t, tars...), tar.NewWriter(io.Discard), Options{MaxBytes: 2 << 20})
	if !errors.Is(err, api.ErrInvalid) {
		t.Errorf("error = %v, want api.ErrInvalid", err)
	}
	if _, err := Layers(context.Background(), layersOf(t, tars...), tar.NewWriter(io.Discard), Options{MaxBytes: 4 << 20}); err != nil {
		t.Error(err)
	}
}

// cancelling is a keeper in whose store a pull is cancelled.
type cancelling struct {
	cancel context.CancelFunc
	err    error
}

func (c *cancelling) store(r io.Reader, _ int64, buf []byte) (contents, error) {
	c.cancel()
	_, c.err = r.Read(buf)
	return contents{}, c.err
}

// A hole of half a TiB takes minutes to fill with zeros, and no reading of the
// layer, at which the end of the context would be noticed.
func TestCancelledInHole(t *testing.T) {
	header := make([]byte, 1024)
	copy(header, "hole")
	copy(header[156:], "S")
	copy(header[257:], "ustar  \x00")                      // GNU tar's own format
	copy(header[386:], "\x80\x00\x00\x00\x00\x00\x00\x80") // the one part, at the end, is empty
	copy(header[483:], "\x80\x00\x00\x00\x00\x00\x00\x80") // size
	ctx, cancel := context.WithCancel(context.Background())
	keeper := &cancelling{cancel: cancel}
	_, err := readEntries(ctx, bytes.NewReader(tartest.Checksums(header)), keeper, newBudget(math.MaxInt64))
	if !errors.Is(err, context.Canceled) || !errors.Is(keeper.err, context.Canceled) {
		t.Errorf("errors = %v, %v", err, keeper.err)
	}
}

// split makes layers of a program for tartest: a byte of 0xff ends one.
func split(program []byte) [][]byte {
	program = program[:min(len(program), 1500)]
	parts := bytes.SplitN(program, []byte{0xff}, 4)
	tars := make([][]byte, len(parts))
	for i, part := range parts {
		tars[i] = tartest.Tar(tartest.Entries(part))
	}
	return tars
}

// FuzzLayers flattens trees with odd names, links and whiteouts.
func FuzzLayers(f *testing.F) {
	f.Add([]byte{0, 3, 0x64, 2, 2, 0, 1, 0xff, 2, 0, 0, 0, 1, 2, 2, 4, 0})
	f.Add([]byte{1, 0, 0, 0, 1, 0, 2, 0, 0, 0, 1, 1, 1, 0, 0xff, 0, 9, 9, 0, 2, 1, 2, 3, 0, 0, 0, 1, 3, 1, 1, 0xff, 0, 0, 0, 0, 2, 0, 9, 0, 0, 0, 0, 1, 8})
	f.Fuzz(func(t *testing.T, program []byte) {
		var tree bytes.Buffer
		w := tar.NewWriter(&tree)
		_, err := Layers(t.Context(), layersOf(t, split(program)...), w, Options{TempDir: t.TempDir(), MaxBytes: 1 << 30})
		if err != nil {
			if !errors.Is(err, api.ErrInvalid) {
				t.Fatalf("the error is not about the layers: %v", err)
			}
			return
		}
		w.Close()
		checkEmitted(t, &tree)
	})
}

// checkEmitted fails unless a tree is as Layers promises.
func checkEmitted(t *testing.T, r io.Reader) {
	t.Helper()
	kinds := map[string]byte{"": tar.TypeDir}
	last := ""
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		if h.Name == "./" {
			continue
		}
		if _, twice := kinds[name]; twice || path.Clean("/" + name)[1:] != name || name == "" {
			t.Errorf("the name %q", h.Name)
		}
		if dir := strings.TrimSuffix(path.Dir("/" + name)[1:], "/"); kinds[dir] != tar.TypeDir {
			t.Errorf("%q comes after %q, but its directory doesn't", h.Name, last)
		}
		if kind, ok := kinds[h.Linkname]; h.Typeflag == tar.TypeLink && (!ok || kind == tar.TypeDir) {
			t.Errorf("%q is a link to %q", h.Name, h.Linkname)
		}
		kinds[name] = h.Typeflag
		last = h.Name
	}
}

// FuzzLayer reads layers that no program has written, compressed or not.
func FuzzLayer(f *testing.F) {
	sample := tartest.Tar(tartest.Entries([]byte{0, 3, 0x64, 2, 2, 0, 1, 2, 0, 0, 0, 1, 2, 2, 4, 0}))
	f.Add(sample)
	f.Add(lt.Gzip(f, sample))
	f.Add(lt.Zstd(f, sample))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = tartest.Checksums(data)
		layer := Layer{Path: lt.WriteFile(t, data), Size: int64(len(data))}
		_, err := Layers(t.Context(), []Layer{layer}, tar.NewWriter(io.Discard), Options{TempDir: t.TempDir(), MaxBytes: 1 << 24})
		if err != nil && !errors.Is(err, api.ErrInvalid) {
			t.Fatalf("the error is not about the layer: %v", err)
		}
	})
}
