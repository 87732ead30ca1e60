package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"banger/internal/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func noise(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(p)
	return p
}

func sumOf(p []byte) string {
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:])
}

// sources writes files, in order of "NAME", content, and returns them.
func sources(t *testing.T, pairs ...any) []File {
	t.Helper()
	dir := t.TempDir()
	var files []File
	for i := 0; i < len(pairs); i += 2 {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, pairs[i+1].([]byte), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, File{Name: pairs[i].(string), Path: path})
	}
	return files
}

// rootfs has zeros enough for frames of their own.
func rootfs() []byte {
	return slices.Concat(noise(300_000), make([]byte, 2*zeroRun+12_345), []byte("end"))
}

// sample makes a bundle of two files and returns its path and what it is.
func sample(t *testing.T) (string, api.Exported) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample.tar.zst")
	made, err := Create(t.Context(), path, sources(t, ManifestName, []byte("{}"), "rootfs.ext4", rootfs()), nil)
	if err != nil {
		t.Fatal(err)
	}
	return path, made
}

// tree reads a directory: contents by path.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		got[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	if left := tree(t, dir); len(left) > 0 {
		t.Errorf("%d files are left in %s", len(left), dir)
	}
}

func TestRoundTrip(t *testing.T) {
	files := sources(t, ManifestName, []byte(`{"name":"x"}`), "rootfs.ext4", noise(3_000_001), "empty", []byte{}, "modules/all.img", []byte("modules"))
	path := filepath.Join(t.TempDir(), "x.tar.zst")
	var events []api.Progress
	made, err := Create(t.Context(), path, files, func(p api.Progress) { events = append(events, p) })
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(api.Exported{Path: path, SHA256: sumOf(data), Bytes: int64(len(data))}, made); diff != "" {
		t.Error(diff)
	}
	if last := events[len(events)-1]; !last.Finished || last.Done != last.Total || last.Done < 3_000_000 {
		t.Errorf("the last event is %+v", last)
	}
	dir := t.TempDir()
	sum, err := Unpack(t.Context(), path, dir, Options{SHA256: strings.ToUpper(made.SHA256)})
	if err != nil || sum != made.SHA256 {
		t.Fatalf("got %s, %v", sum, err)
	}
	want := map[string]string{}
	for _, f := range files {
		data, err := os.ReadFile(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		want[f.Name] = string(data)
	}
	if got := tree(t, dir); !cmp.Equal(want, got) {
		t.Error("the files differ")
	}
	if _, err := Unpack(t.Context(), path, dir, Options{}); err == nil {
		t.Error("unpacked over other files")
	}
}

func TestSameFilesSameBytes(t *testing.T) {
	files := sources(t, ManifestName, []byte("{}"), "rootfs.ext4", noise(2_000_000))
	dir := t.TempDir()
	first, err := Create(t.Context(), filepath.Join(dir, "a"), files, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		then := time.Unix(int64(i+1)*1e9, 5)
		if err := errors.Join(os.Chtimes(f.Path, then, then), os.Chmod(f.Path, 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	second, err := Create(t.Context(), filepath.Join(dir, "b"), files, nil)
	if err != nil || second.SHA256 != first.SHA256 {
		t.Errorf("got %s and %s, %v", first.SHA256, second.SHA256, err)
	}
}

// Holes cost next to nothing, and whether zeros are holes makes no difference.
func TestHoles(t *testing.T) {
	const size = 64 << 20
	files := sources(t, ManifestName, []byte("{}"), "disk", []byte{})
	f, err := os.OpenFile(files[1].Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{30<<20 + 3, 31 << 20, 50<<20 - 2, size - 5_000_000} {
		if _, err := f.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "x.tar.zst")
	made, err := Create(t.Context(), path, files, nil)
	if err != nil {
		t.Fatal(err)
	}
	if made.Bytes > 16<<10 {
		t.Errorf("a file of holes makes a bundle of %d bytes", made.Bytes)
	}
	dir := t.TempDir()
	if _, err := Unpack(t.Context(), path, dir, Options{}); err != nil {
		t.Fatal(err)
	}
	unpacked := filepath.Join(dir, "disk")
	info, err := os.Stat(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	if blocks := info.Sys().(*syscall.Stat_t).Blocks; blocks > 128 {
		t.Errorf("%d blocks of 512 for a file of holes", blocks)
	}
	want, err := os.ReadFile(files[1].Path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(unpacked); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the files differ, %v", err)
	}
	if err := os.WriteFile(files[1].Path, want, 0o600); err != nil { // without holes
		t.Fatal(err)
	}
	if again, err := Create(t.Context(), path, files, nil); err != nil || again != made {
		t.Errorf("with zeros instead of holes: %+v, want %+v, %v", again, made, err)
	}
}

func TestCreateReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	made, err := Create(t.Context(), path, sources(t, ManifestName, []byte("{}")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if left := tree(t, dir); len(left) != 1 || sumOf([]byte(left["x"])) != made.SHA256 {
		t.Errorf("left: %d files", len(left))
	}
}

func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	link := filepath.Join(dir, "link")
	err := errors.Join(os.WriteFile(precious, nil, 0o600), os.Symlink(precious, link), os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	if err != nil {
		t.Fatal(err)
	}
	good := sources(t, ManifestName, []byte("{}"), "a", []byte("a"))
	for _, tt := range []struct {
		path  string
		files []File
		want  error // nil: any
	}{
		{filepath.Join(dir, "sub"), good, api.ErrInvalid},
		{link, good, api.ErrInvalid},
		{"relative", good, api.ErrInvalid},
		{filepath.Join(dir, "no", "x"), good, api.ErrInvalid},
		{filepath.Join(dir, "x"), nil, nil},
		{filepath.Join(dir, "x"), good[1:], nil},
		{filepath.Join(dir, "x"), append(good, good[1]), nil},
		{filepath.Join(dir, "x"), append(good, File{Name: "../b", Path: good[1].Path}), nil},
		{filepath.Join(dir, "x"), append(good, File{Name: "b", Path: filepath.Join(dir, "no")}), fs.ErrNotExist},
		{filepath.Join(dir, "x"), append(good, File{Name: "b", Path: "/dev/null"}), nil},
		{"/dev/full", good, api.ErrInvalid},
	} {
		if _, err := Create(t.Context(), tt.path, tt.files, nil); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v", tt.path, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Create(ctx, filepath.Join(dir, "x"), good, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// archive makes a tar archive compressed with zstd.
func archive(t *testing.T, headers ...*tar.Header) []byte {
	t.Helper()
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return compress(t, plain.Bytes())
}

func compress(t *testing.T, p []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(p, nil)
}
