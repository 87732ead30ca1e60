package flatten

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
	lt "banger/internal/image/oci/layertest"

	"github.com/google/go-cmp/cmp"
)

// layersOf writes tars to files, as plain layers.
func layersOf(t testing.TB, tars ...[]byte) []Layer {
	t.Helper()
	var layers []Layer
	for _, data := range tars {
		digest := lt.Digest(data)
		layers = append(layers, Layer{Path: lt.WriteFile(t, data), Digest: digest, DiffID: digest, Size: int64(len(data))})
	}
	return layers
}

// flattened returns the listing of the tree.
func flattened(t testing.TB, layers []Layer) string {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	if _, err := Layers(context.Background(), layers, tw, Options{TempDir: t.TempDir()}); err != nil {
		t.Fatalf("flatten: %v", err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return lt.List(t, &b)
}

func TestLayersOverEachOther(t *testing.T) {
	base := []any{
		lt.Dir("etc", 0o755), lt.Reg("etc/a", "a"), lt.Reg("etc/b", "b"),
		lt.Dir("usr", 0o755), lt.Dir("usr/lib", 0o755), lt.Reg("usr/lib/x", "x"), lt.Symlink("lib", "usr/lib"),
	}
	const (
		root  = "d 755 0:0 ./\n"
		usr   = "d 755 0:0 usr/\nd 755 0:0 usr/lib/\n"
		etc   = "d 755 0:0 etc/\n"
		files = "f 644 0:0 etc/a \"a\"\nf 644 0:0 etc/b \"b\"\n"
		lib   = "l 0:0 lib -> usr/lib\n"
		x     = "f 644 0:0 usr/lib/x \"x\"\n"
	)
	for _, c := range []struct {
		name  string
		upper []any
		want  string
	}{
		{"nothing", nil, root + etc + files + lib + usr + x},
		{"a whiteout", []any{lt.Whiteout("etc/a")}, root + etc + "f 644 0:0 etc/b \"b\"\n" + lib + usr + x},
		{"a whiteout of a directory", []any{lt.Whiteout("etc")}, root + lib + usr + x},
		{"a whiteout of a parent and a new child", []any{lt.Whiteout("etc"), lt.Reg("etc/c", "c")},
			root + etc + "f 644 0:0 etc/c \"c\"\n" + lib + usr + x},
		{"the same, whiteout last", []any{lt.Reg("etc/c", "c"), lt.Whiteout("etc")},
			root + etc + "f 644 0:0 etc/c \"c\"\n" + lib + usr + x},
		{"a whiteout of what the layer itself has", []any{lt.Reg("etc/a", "new"), lt.Whiteout("etc/a")},
			root + etc + "f 644 0:0 etc/a \"new\"\nf 644 0:0 etc/b \"b\"\n" + lib + usr + x},
		{"a whiteout of nothing", []any{lt.Whiteout("no/such/file"), lt.Whiteout("etc/a/b")},
			root + etc + files + lib + usr + x},
		{"an opaque directory", []any{lt.Dir("etc", 0o700), lt.Opaque("etc"), lt.Reg("etc/c", "c")},
			root + "d 700 0:0 etc/\nf 644 0:0 etc/c \"c\"\n" + lib + usr + x},
		{"the same, marker last", []any{lt.Dir("etc", 0o700), lt.Reg("etc/c", "c"), lt.Opaque("etc")},
			root + "d 700 0:0 etc/\nf 644 0:0 etc/c \"c\"\n" + lib + usr + x},
		{"a whiteout of a symbolic link", []any{lt.Whiteout("lib")}, root + etc + files + usr + x},
		{"a whiteout through a symbolic link", []any{lt.Whiteout("lib/x")}, root + etc + files + lib + usr},
		{"a file through a symbolic link", []any{lt.Reg("lib/b", "b")},
			root + etc + files + lib + usr + "f 644 0:0 usr/lib/b \"b\"\n" + x},
		{"a directory over a symbolic link", []any{lt.Dir("lib", 0o755), lt.Reg("lib/b", "b")},
			root + etc + files + "d 755 0:0 lib/\nf 644 0:0 lib/b \"b\"\n" + usr + x},
		{"a file over a directory", []any{lt.Reg("etc", "e")}, root + "f 644 0:0 etc \"e\"\n" + lib + usr + x},
		{"a directory over a file", []any{lt.Dir("etc/a", 0o755)},
			root + etc + "d 755 0:0 etc/a/\nf 644 0:0 etc/b \"b\"\n" + lib + usr + x},
		{"the same name twice", []any{lt.Reg("etc/a", "1"), lt.Reg("etc/a", "2")},
			root + etc + "f 644 0:0 etc/a \"2\"\nf 644 0:0 etc/b \"b\"\n" + lib + usr + x},
		{"the root", []any{lt.Dir("./", 0o711)}, "d 711 0:0 ./\n" + etc + files + lib + usr + x},
		{"missing parents", []any{lt.Reg("p/q/r", "r")},
			root + etc + files + lib + "d 755 0:0 p/\nd 755 0:0 p/q/\nf 644 0:0 p/q/r \"r\"\n" + usr + x},
		{"names outside", []any{lt.Reg("../../../etc/a", "1"), lt.Reg("/etc/b", "2")},
			root + etc + "f 644 0:0 etc/a \"1\"\nf 644 0:0 etc/b \"2\"\n" + lib + usr + x},
		{"AUFS metadata", []any{lt.Reg(".wh..wh.aufs", ""), lt.Dir(".wh..wh.plnk", 0o700), lt.Reg(".wh..wh.plnk/1.2", "")},
			root + etc + files + lib + usr + x},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := flattened(t, layersOf(t, lt.Tar(t, base...), lt.Tar(t, c.upper...)))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHardLinks(t *testing.T) {
	base := []any{lt.Dir("d", 0o755), lt.Reg("d/one", "old").Owned(1, 2, 0o4755), lt.Link("d/two", "d/one")}
	const head = "d 755 0:0 ./\nd 755 0:0 d/\n"
	for _, c := range []struct {
		name  string
		upper []any
		want  string
	}{
		{"both names", nil, "f 4755 1:2 d/one \"old\"\nh d/two = d/one\n"},
		{"the first name is removed", []any{lt.Whiteout("d/one")}, "f 4755 1:2 d/two \"old\"\n"},
		{"the first name is overwritten", []any{lt.Reg("d/one", "new")}, "f 644 0:0 d/one \"new\"\nf 4755 1:2 d/two \"old\"\n"},
		{"a third name from above", []any{lt.Link("a", "/d/two")}, "h d/one = a\nh d/two = a\n"},
		{"a link to itself", []any{lt.Link("d/one", "d/one")}, "f 4755 1:2 d/one \"old\"\nh d/two = d/one\n"},
		{"a link out of the tree", []any{lt.Link("d/x", "../../d/one")},
			"f 4755 1:2 d/one \"old\"\nh d/two = d/one\nh d/x = d/one\n"},
		{"a link to a symbolic link", []any{lt.Symlink("d/s", "one"), lt.Link("d/t", "d/s")},
			"f 4755 1:2 d/one \"old\"\nl 0:0 d/s -> one\nh d/t = d/s\nh d/two = d/one\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := head + c.want
			if c.name == "a third name from above" {
				want = "d 755 0:0 ./\nf 4755 1:2 a \"old\"\nd 755 0:0 d/\n" + c.want
			}
			got := flattened(t, layersOf(t, lt.Tar(t, base...), lt.Tar(t, c.upper...)))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSymbolicLinksStayInside(t *testing.T) {
	layers := layersOf(t, lt.Tar(t,
		lt.Symlink("abs", "/target"), lt.Symlink("up", "../../../target"), lt.Symlink("chain", "up/deep/.."),
		lt.Symlink("dangling", "made/up"), lt.Symlink("sub/abs", "/target")),
		lt.Tar(t, lt.Reg("sub/abs/5", ""), lt.Reg("abs/1", ""), lt.Reg("up/2", ""), lt.Dir("target/deep", 0o755), lt.Reg("chain/3", ""), lt.Reg("dangling/4", "")))
	want := `d 755 0:0 ./
l 0:0 abs -> /target
l 0:0 chain -> up/deep/..
l 0:0 dangling -> made/up
d 755 0:0 made/
d 755 0:0 made/up/
f 644 0:0 made/up/4 ""
d 755 0:0 sub/
l 0:0 sub/abs -> /target
d 755 0:0 target/
f 644 0:0 target/1 ""
f 644 0:0 target/2 ""
f 644 0:0 target/3 ""
f 644 0:0 target/5 ""
d 755 0:0 target/deep/
l 0:0 up -> ../../../target
`
	if diff := cmp.Diff(want, flattened(t, layers)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}

func TestAttributes(t *testing.T) {
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	layers := layersOf(t, lt.Tar(t,
		lt.Reg("ping", "#!").Owned(4_000_000_000, 70000, 0o2755).Xattr("security.capability", capability).Xattr("user.x", "z"),
		lt.Xattr(lt.Dir("d", 0o1777), "user.old", "1"),
		lt.Reg("\xff\xfe bytes", "raw"),
		lt.Node("null", '3', 1, 3), lt.Node("disk", '4', 259, 70000), lt.Node("pipe", '6', 0, 0)),
		lt.Tar(t, lt.Dir("d", 0o700)))
	want := `d 755 0:0 ./
d 700 0:0 d/
b 660 0:0 disk 259,70000
c 660 0:0 null 1,3
f 2755 4000000000:70000 ping "#!" security.capability=` + fmt.Sprintf("%q", capability) + ` user.x="z"
p 660 0:0 pipe
f 644 0:0 "\xff\xfe bytes" "raw"
`
	if diff := cmp.Diff(want, flattened(t, layers)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}

func TestCompressions(t *testing.T) {
	plain := lt.Tar(t, lt.Dir("d", 0o755), lt.Reg("d/f", strings.Repeat("content ", 100_000)))
	two := append(lt.Gzip(t, plain[:1000]), lt.Gzip(t, plain[1000:])...)
	skippable := append([]byte("\x51\x2a\x4d\x18\x04\x00\x00\x00abcd"), lt.Zstd(t, plain)...)
	want := flattened(t, layersOf(t, plain))
	for name, data := range map[string][]byte{
		"gzip": lt.Gzip(t, plain), "two gzip members": two, "zstd": lt.Zstd(t, plain), "zstd with a skippable frame": skippable,
	} {
		t.Run(name, func(t *testing.T) {
			layer := Layer{Path: lt.WriteFile(t, data), Digest: lt.Digest(data), DiffID: lt.Digest(plain), Size: int64(len(data))}
			if got := flattened(t, []Layer{layer}); got != want {
				t.Error("the tree differs from that of the plain layer")
			}
		})
	}
}

func TestBadLayers(t *testing.T) {
	good := lt.Tar(t, lt.Dir("d", 0o755), lt.Reg("d/f", strings.Repeat("0123456789", 50_000)))
	gz, zs := lt.Gzip(t, good), lt.Zstd(t, good)
	flipped := bytes.Clone(gz)
	flipped[len(flipped)-8] ^= 0xff // of the checksum
	loop := lt.Tar(t, lt.Symlink("a", "b"), lt.Symlink("b", "a"), lt.Reg("a/x", ""))
	for _, c := range []struct {
		name   string
		data   []byte
		diffID string
		want   string
	}{
		{"a cut gzip", gz[:len(gz)*2/3], "", "ends too early"},
		{"a cut zstd", zs[:len(zs)*2/3], "", "ends too early"},
		{"a cut tar", good[:len(good)/2], "", "ends too early"},
		{"a gzip without its end", gz[:len(gz)-4], "", "ends too early"},
		{"a damaged gzip", flipped, "", "damaged"},
		{"no tar", []byte(strings.Repeat("no tar ", 1000)), "", "not a valid tar"},
		{"xz", append([]byte("\xfd7zXZ\x00"), good...), "", "neither gzip nor zstd"},
		{"another content", gz, lt.Digest([]byte("other")), "the image's configuration says"},
		{"a link to nothing", lt.Tar(t, lt.Link("a", "no/where")), "", `"no/where", which doesn't exist`},
		{"a link to a directory", lt.Tar(t, lt.Dir("d", 0o755), lt.Link("a", "d")), "", "of the directory"},
		{"a link to the root", lt.Tar(t, lt.Link("a", "/")), "", "of the directory"},
		{"a symbolic link loop", loop, "", "too many symbolic links"},
		{"a file as a directory", lt.Tar(t, lt.Reg("a", ""), lt.Reg("a/b", "")), "", "is not a directory"},
		{"a file as the root", lt.Tar(t, lt.Reg(".", "")), "", "replaces the root"},
		{"a whiteout of the directory itself", lt.Tar(t, lt.Reg("d/.wh..", "")), "", "names no file"},
		{"an empty whiteout", lt.Tar(t, lt.Reg("d/.wh.", "")), "", "names no file"},
		{"a long name", lt.Tar(t, lt.Reg(strings.Repeat("n", 256), "")), "", "256 bytes"},
		{"a long path", lt.Tar(t, lt.Reg(strings.Repeat("n/", 3000)+"f", "")), "", "is longer than"},
		{"a negative owner", lt.Tar(t, lt.Reg("f", "").Owned(-1, 0, 0o644)), "", "impossible user"},
		{"big attributes", lt.Tar(t, lt.Reg("f", "").Xattr("user.x", strings.Repeat("x", 70_000))), "", "extended attributes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			layer := Layer{Path: lt.WriteFile(t, c.data), Digest: lt.Digest(c.data), DiffID: c.diffID, Size: int64(len(c.data))}
			_, err := Layers(context.Background(), append(layersOf(t, good), layer), tar.NewWriter(io.Discard), Options{TempDir: dir})
			if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), c.want) ||
				!strings.HasPrefix(err.Error(), "layer 2 of 2 (sha256:") {
				t.Errorf("error = %v, want one about layer 2 with %q", err, c.want)
			}
			if _, err := os.Stat(layer.Path); err != nil {
				t.Errorf("the layer's file is gone: %v", err)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// A file of the cache that rotted must not stay, or no later pull would mend
// it.
func TestDamagedCacheFileIsRemoved(t *testing.T) {
	data := lt.Gzip(t, lt.Tar(t, lt.Reg("f", strings.Repeat("x", 10_000))))
	layer := Layer{Path: lt.WriteFile(t, data[:len(data)/2]), Digest: lt.Digest(data), Size: int64(len(data))}
	_, err := Layers(context.Background(), []Layer{layer}, tar.NewWriter(io.Discard), Options{})
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "now removed") || api.AsError(err).Hint != "pull the image again" {
		t.Errorf("error = %v (hint %q)", err, api.AsError(err).Hint)
	}
	if _, err := os.Stat(layer.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the damaged file is still there (%v)", err)
	}
}

func TestTooBig(t *testing.T) {
	bomb := lt.Gzip(t, lt.Tar(t, lt.Reg("zeros", strings.Repeat("\x00", 10<<20))))
	layer := Layer{Path: lt.WriteFile(t, bomb), Size: int64(len(bomb))}
	for _, limit := range []int64{1 << 20, 10<<20 + 1} { // the file, and the tar around it
		_, err := Layers(context.Background(), []Layer{layer}, tar.NewWriter(io.Discard), Options{MaxBytes: limit})
		if !errors.Is(err, api.ErrInvalid) {
			t.Errorf("limit %d: error = %v, want api.ErrInvalid", limit, err)
		}
	}
}

func TestDeepNesting(t *testing.T) {
	// Each layer goes deeper through a symbolic link to where the last ended.
	var tars [][]byte
	at := ""
	for i := range 4 {
		step := strings.Repeat("d/", 600)
		link := fmt.Sprintf("l%d", i)
		tars = append(tars, lt.Tar(t, lt.Dir(at+step, 0o755), lt.Symlink(link, at+step)))
		at = link + "/"
	}
	_, err := Layers(context.Background(), layersOf(t, tars...), tar.NewWriter(io.Discard), Options{})
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "is longer than") {
		t.Errorf("error = %v, want one about the length", err)
	}
}

func TestCancelledAndMissing(t *testing.T) {
	layers := layersOf(t, lt.Tar(t, lt.Reg("f", "x")))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Layers(ctx, layers, tar.NewWriter(io.Discard), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
	layers[0].Path = filepath.Join(t.TempDir(), "none")
	if _, err := Layers(context.Background(), layers, tar.NewWriter(io.Discard), Options{TempDir: t.TempDir()}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error = %v, want os.ErrNotExist", err)
	}
	if _, err := Layers(context.Background(), layersOf(t, lt.Tar(t, lt.Reg("f", "x"))), tar.NewWriter(brokenWriter{}), Options{}); !errors.Is(err, errBroken) {
		t.Errorf("error = %v, want that of the writer", err)
	}
}

var errBroken = errors.New("broken")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestProgress(t *testing.T) {
	layers := layersOf(t, lt.Tar(t, lt.Reg("f", strings.Repeat("x", 1<<20))), lt.Tar(t, lt.Reg("g", "y")))
	last := make(map[string]api.Progress)
	opts := Options{Progress: func(p api.Progress) { last[p.Phase] = p }}
	stats, err := Layers(context.Background(), layers, tar.NewWriter(io.Discard), opts)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Stats{Entries: 3, Bytes: 1<<20 + 1}); stats != want {
		t.Errorf("stats = %+v, want %+v", stats, want)
	}
	for _, phase := range []string{"image-unpack", "image-write"} {
		if p := last[phase]; !p.Finished || p.Total == 0 || p.Done != p.Total {
			t.Errorf("last event of %s = %+v, want a finished one", phase, p)
		}
	}
}
