//go:build e2e

package oci

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	lt "banger/internal/image/oci/layertest"
)

// The size of the tree that is measured: that of a Debian with some tools.
const (
	benchFiles = 13_000
	benchBytes = 300 << 20
	maxKiB     = 200 << 10
)

// TestFasterThanMke2fs compares making an image from layers with the usual
// way, extracting them and mke2fs -d. The times are the best of three, taken
// in turns.
func TestFasterThanMke2fs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for the extraction to keep owners")
	}
	dir := t.TempDir()
	plain := benchTar(t)
	compressed := lt.Gzip(t, plain)
	files := map[string][]byte{"layer.tar": plain, "layer.tar.gz": compressed}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tree := filepath.Join(dir, "tree")
	image := filepath.Join(dir, "image.ext4")
	ways := []struct {
		name string
		prep func()
		cmd  func() *exec.Cmd
	}{
		{"tar -xz", func() { os.RemoveAll(tree); os.Mkdir(tree, 0o755) }, func() *exec.Cmd {
			return exec.Command("tar", "-C", tree, "-xzpf", filepath.Join(dir, "layer.tar.gz"), "--numeric-owner")
		}},
		{"mke2fs -d", func() { os.Remove(image) }, func() *exec.Cmd {
			return exec.Command("/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, image, "1G")
		}},
		{"flatten a plain layer", func() { os.Remove(image) }, func() *exec.Cmd { return flattenProcess(t, filepath.Join(dir, "layer.tar"), lt.Digest(plain), image) }},
		{"flatten a gzip layer", func() { os.Remove(image) }, func() *exec.Cmd {
			return flattenProcess(t, filepath.Join(dir, "layer.tar.gz"), lt.Digest(plain), image)
		}},
	}
	best := make(map[string]time.Duration)
	for range 3 {
		for _, way := range ways {
			way.prep()
			cmd := way.cmd()
			start := time.Now()
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", way.name, err, out)
			}
			took := time.Since(start)
			t.Logf("%-22s %5.2f s %s", way.name, took.Seconds(), out)
			if b, ok := best[way.name]; !ok || took < b {
				best[way.name] = took
			}
			if strings.HasPrefix(way.name, "flatten") {
				checkMemory(t, string(out))
			}
		}
	}
	t.Logf("best: %v", best)
	// mke2fs has no layers to read: the extraction is part of that way.
	for _, ours := range []string{"flatten a plain layer", "flatten a gzip layer"} {
		if theirs := best["tar -xz"] + best["mke2fs -d"]; best[ours] >= theirs {
			t.Errorf("%s took %s, tar and mke2fs %s", ours, best[ours], theirs)
		}
	}
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
func checkMemory(t *testing.T, out string) {
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
func benchTar(t *testing.T) []byte {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, 64<<20)
	for i := range text { // compresses to about 40 %, like programs
		text[i] = byte(rng.IntN(256) & rng.IntN(256))
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
func flattenProcess(t *testing.T, layer, diffID, image string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), flattenVariable+"="+layer+" "+diffID+" "+image)
	return cmd
}
