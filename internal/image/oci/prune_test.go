package oci

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"banger/internal/transfer"
)

func TestPruneCache(t *testing.T) {
	reg := newTestRegistry(t)
	ref := reg.push(t, "app:1", imageOf(t, "linux/amd64", randomTar(t, "a", 100_000), randomTar(t, "b", 100_000)))
	dir := t.TempDir()
	img, err := pullFast(t, ref, Options{CacheDir: dir, Platform: "linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	blobs := filepath.Join(dir, "sha256")
	for _, name := range []string{"0" + transfer.PartialSuffix, "1" + transfer.PartialSuffix} {
		if err := os.WriteFile(filepath.Join(blobs, name), make([]byte, 50_000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fetching, err := transfer.Lock(filepath.Join(blobs, "1"+transfer.PartialSuffix))
	if err != nil || fetching == nil {
		t.Fatalf("lock: %v, %v", fetching, err)
	}
	defer fetching.Close()
	before, err := CacheUsage(dir)
	if err != nil || before < 200_000 {
		t.Fatalf("the cache takes %d bytes (%v), want 200,000 or more", before, err)
	}
	prune := func(keep string, want ...string) int64 {
		t.Helper()
		removed, err := PruneCache(context.Background(), dir, func(digest string) bool { return digest == keep })
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range want {
			if _, err := os.Stat(path); err != nil {
				t.Errorf("what is in use is gone: %v", err)
			}
		}
		if left, err := os.ReadDir(blobs); err != nil || len(left) != len(want) {
			t.Errorf("%d files are left (%v), want %d", len(left), err, len(want))
		}
		return removed
	}
	sum := prune("", img.Layers[0].Path, img.Layers[1].Path, fetching.Name())
	if err := img.Close(); err != nil {
		t.Fatal(err)
	}
	sum += prune(img.Layers[1].Digest, img.Layers[1].Path, fetching.Name())
	after, err := CacheUsage(dir)
	if err != nil || after != before-sum {
		t.Errorf("the cache takes %d bytes (%v) after %d of %d were removed", after, err, sum, before)
	}
	// The next pull fetches what is missing.
	if _, err := pullFast(t, ref, Options{CacheDir: dir, Platform: "linux/amd64"}); err != nil {
		t.Fatal(err)
	}
}

func TestNoCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if n, err := CacheUsage(dir); n != 0 || err != nil {
		t.Errorf("CacheUsage = %d, %v", n, err)
	}
	if n, err := PruneCache(context.Background(), dir, func(string) bool { return false }); n != 0 || err != nil {
		t.Errorf("PruneCache = %d, %v", n, err)
	}
}

// Pulls succeed while prunes take from them whatever they don't hold.
func TestPruneDuringPulls(t *testing.T) {
	reg := newTestRegistry(t)
	ref := reg.push(t, "app:1", imageOf(t, "linux/amd64", randomTar(t, "a", 1<<20), randomTar(t, "b", 1<<20)))
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	pruned := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if _, err := PruneCache(context.Background(), dir, func(string) bool { return false }); err != nil {
				pruned <- err
				return
			}
		}
		pruned <- nil
	}()
	for range 20 {
		img, err := pullFast(t, ref, Options{CacheDir: dir, Platform: "linux/amd64"})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range img.Layers {
			if info, err := os.Stat(l.Path); err != nil || info.Size() != l.Size {
				t.Errorf("layer of a pull: %v", err)
			}
		}
		if err := img.Close(); err != nil {
			t.Error(err)
		}
	}
	cancel()
	if err := <-pruned; err != nil {
		t.Errorf("prune: %v", err)
	}
}
