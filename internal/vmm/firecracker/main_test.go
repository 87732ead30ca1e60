package firecracker

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger/internal/vmm"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	if match := fakeName.FindStringSubmatch(filepath.Base(os.Args[0])); match != nil {
		os.Exit(runFake(match[1], os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// fakeBinary returns a Firecracker of a release, see runFake.
func fakeBinary(t *testing.T, release string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "firecracker-v"+release)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func newFakeDriver(t *testing.T, release string) *Driver {
	t.Helper()
	d := New(Config{Binary: fakeBinary(t, release), Log: testLog(t)})
	d.haltInterval = 50 * time.Millisecond // its processors wake more often than real ones
	return d
}

// files are what a VM boots from.
type files struct{ kernel, initramfs, image string }

// fakeFiles are enough for a fake Firecracker.
func fakeFiles(t *testing.T) files {
	t.Helper()
	dir := t.TempDir()
	f := files{filepath.Join(dir, "vmlinux"), filepath.Join(dir, "initramfs"), filepath.Join(dir, "image")}
	for path, content := range map[string]string{f.kernel: "\x7fELF", f.initramfs: "", f.image: ""} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

var lastID atomic.Int64

// newSpec describes a VM with a disk of its own and a shared image.
func newSpec(t *testing.T, f files) vmm.Spec {
	t.Helper()
	n := lastID.Add(1)
	dir := t.TempDir()
	run, disk := filepath.Join(dir, "run"), filepath.Join(dir, "disk.ext4")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 64<<20); err != nil {
		t.Fatal(err)
	}
	return vmm.Spec{
		ID: fmt.Sprintf("%012x", n), Name: fmt.Sprintf("test-%d", n),
		StateDir: dir, RuntimeDir: run, Console: filepath.Join(dir, "console.log"),
		Kernel: f.kernel, Initramfs: f.initramfs,
		VCPUs: 1, MemoryMiB: 256,
		Drives: []vmm.Drive{{ID: "image", Path: f.image, ReadOnly: true}, {ID: "disk", Path: disk}},
	}
}
