//go:build e2e

package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	lt "banger/internal/image/oci/layertest"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"
)

// The size of the tree that is measured: that of a Debian with some tools.
const (
	benchFiles = 13_000
	benchBytes = 300 << 20
	maxKiB     = 200 << 10
)

// BenchmarkAgainstMke2fs compares making an image from a layer with mke2fs -d of
// the same tree, extracted already, with the options that banger's own use of
// it has. Both flush the image to the disk. The times are the best of three,
// taken in turns.
//
// The times of gzip are not judged: decompressing alone, which is logged, may
// take longer than mke2fs.
func BenchmarkAgainstMke2fs(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("needs root, for the extraction to keep owners")
	}
	dir := b.TempDir()
	plain := benchTar(b)
	compressed := lt.Gzip(b, plain)
	image := filepath.Join(dir, "image.ext4")
	flattening := func(name string, data []byte) benchWay {
		layer := filepath.Join(dir, name)
		if err := os.WriteFile(layer, data, 0o600); err != nil {
			b.Fatal(err)
		}
		return benchWay{"flatten " + name, func() *exec.Cmd { return flattenProcess(b, layer, lt.Digest(plain), image) }}
	}
	tree := filepath.Join(dir, "tree")
	ways := []benchWay{
		{"mke2fs -d", func() *exec.Cmd {
			return exec.Command("/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-N", strconv.Itoa(benchFiles+1000),
				"-O", "^has_journal,^resize_inode", "-m", "0", "-d", tree, image, strconv.Itoa(len(plain)/1024+64<<10)+"k")
		}},
		flattening("layer.tar", plain),
		flattening("layer.tar.zst", lt.Zstd(b, plain)),
		flattening("layer.tar.gz", compressed),
	}
	if err := os.Mkdir(tree, 0o755); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", tree, "-xpf", filepath.Join(dir, "layer.tar"), "--numeric-owner").CombinedOutput(); err != nil {
		b.Fatalf("extract the tree: %v\n%s", err, out)
	}
	unix.Sync() // or who comes first waits for all of that
	best := make(map[string]time.Duration)
	for range 3 {
		for _, way := range ways {
			took := way.run(b, image)
			if old, ok := best[way.name]; !ok || took < old {
				best[way.name] = took
			}
		}
	}
	b.Logf("%d files, %d MB, as gzip %d MB", benchFiles, len(plain)/1e6, len(compressed)/1e6)
	for _, way := range ways {
		b.Logf("%-22s %.2f s", way.name, best[way.name].Seconds())
		b.ReportMetric(best[way.name].Seconds(), strings.ReplaceAll(way.name, " ", "-")+"-s")
	}
	b.ReportMetric(0, "ns/op") // means nothing here
	b.Logf("%-22s %.2f s", "gunzip alone", gunzip(b, compressed).Seconds())
	for _, ours := range []string{"flatten layer.tar", "flatten layer.tar.zst"} {
		if best[ours] >= best["mke2fs -d"] {
			b.Errorf("%s took %s, mke2fs -d %s", ours, best[ours], best["mke2fs -d"])
		}
	}
}

// benchWay is a way to make an image.
type benchWay struct {
	name string
	cmd  func() *exec.Cmd
}

// run makes the image once and returns how long that took.
func (w benchWay) run(t testing.TB, image string) time.Duration {
	t.Helper()
	if err := os.Remove(image); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	cmd := w.cmd()
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start)
	if err != nil {
		t.Fatalf("%s: %v\n%s", w.name, err, out)
	}
	if strings.HasPrefix(w.name, "flatten") {
		checkMemory(t, string(out))
	}
	return took
}

// gunzip returns how long decompressing takes, by the library that flattening
// uses: the best of three.
func gunzip(t testing.TB, data []byte) time.Duration {
	t.Helper()
	best := time.Hour
	for range 3 {
		start := time.Now()
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	return best
}

// Many small files are what takes memory.
func TestMemoryOfManyFiles(t *testing.T) {
	entries := []any{}
	for i := range 100_000 {
		entries = append(entries, lt.Reg(fmt.Sprintf("usr/lib/node_modules/package-%d/file-%d.js", i/100, i), fmt.Sprint(i)))
	}
	data := lt.Tar(t, entries...)
	layer := lt.WriteFile(t, lt.Gzip(t, data))
	cmd := flattenProcess(t, layer, lt.Digest(data), filepath.Join(t.TempDir(), "image.ext4"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("100,000 files: %s", out)
	checkMemory(t, string(out))
}

// checkMemory reads the peak that flattenProcess writes, "VmHWM: 12345 kB".
func checkMemory(t testing.TB, out string) {
	t.Helper()
	var kib int
	if _, err := fmt.Sscanf(out, "VmHWM: %d kB", &kib); err != nil {
		t.Fatalf("read the memory of the process from %q: %v", out, err)
	}
	if kib > maxKiB {
		t.Errorf("flattening took %d MiB of memory, want at most %d", kib>>10, maxKiB>>10)
	}
}

// benchTar is a tree of files of the sizes of a distribution's: most small,
// some big.
func benchTar(t testing.TB) []byte {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	// Words, some much more frequent than others: they compress to about 40 %,
	// like programs.
	words := make([][]byte, 4000)
	for i := range words {
		words[i] = make([]byte, 4+rng.IntN(24))
		for j := range words[i] {
			words[i][j] = byte(rng.IntN(256))
		}
	}
	text := make([]byte, 0, 64<<20)
	for len(text) < 64<<20-32 {
		text = append(text, words[int(float64(len(words))*math.Pow(rng.Float64(), 3))]...)
	}
	sizes := make([]float64, benchFiles)
	var sum float64
	for i := range sizes {
		sizes[i] = 1 / (rng.Float64() + 1e-3)
		sum += sizes[i]
	}
	var entries []any
	for i, size := range sizes {
		n := int(min(size/sum*benchBytes, 32<<20))
		at := rng.IntN(len(text) - n)
		entries = append(entries, lt.Reg(fmt.Sprintf("usr/share/dir-%d/file-%d", i/40, i), string(text[at:at+n])))
	}
	return lt.Tar(t, entries...)
}

// flattenProcess returns a process that makes an image of a layer, so that its
// time and memory can be taken.
func flattenProcess(t testing.TB, layer, diffID, image string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), flattenVariable+"="+layer+" "+diffID+" "+image)
	return cmd
}
