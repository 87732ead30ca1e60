package qemu

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"banger/internal/vmm"
	"banger/internal/vmm/vmmtest"
)

// The variables that name what a real VM boots; see TestConformance.
const (
	envKernel    = "BANGER_TEST_KERNEL"
	envInitramfs = "BANGER_TEST_INITRAMFS"
	envImage     = "BANGER_TEST_IMAGE"
	envAccel     = "BANGER_TEST_ACCEL" // kvm or tcg, the default
)

// artifacts are the files that a real VM boots from.
type artifacts struct{ kernel, initramfs, image string }

// needArtifacts skips a test that needs a real VM where there is nothing to
// boot.
func needArtifacts(t *testing.T) artifacts {
	t.Helper()
	a := artifacts{os.Getenv(envKernel), os.Getenv(envInitramfs), os.Getenv(envImage)}
	if a.kernel == "" || a.initramfs == "" || a.image == "" {
		t.Skipf("no real VM is booted: %s, %s and %s are not set", envKernel, envInitramfs, envImage)
	}
	return a
}

func newTestDriver(t *testing.T) *Driver {
	t.Helper()
	binary, err := FindBinary("")
	if err != nil {
		t.Fatal(err)
	}
	accel := os.Getenv(envAccel)
	if accel == "" {
		accel = AccelTCG
	}
	return New(Config{Binary: binary, Accel: accel, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
}

// TestConformance boots real VMs, whose initramfs holds banger's agent. It
// runs in a user and network namespace of its own, where it may create taps.
func TestConformance(t *testing.T) {
	a := needArtifacts(t)
	if !vmmtest.InNamespace(t, true) {
		return
	}
	vmmtest.Run(t, func(t *testing.T) vmmtest.Fixture {
		return vmmtest.Fixture{
			Driver:  newTestDriver(t),
			NewSpec: func(t *testing.T) vmm.Spec { return newTestSpec(t, a) },
			Break:   func(s *vmm.Spec) { s.NIC.Tap = "no such tap" },
		}
	})
}

var lastID atomic.Int64

// newTestSpec describes a VM with a tap, a disk of its own and the shared
// image.
func newTestSpec(t *testing.T, a artifacts) vmm.Spec {
	t.Helper()
	n := lastID.Add(1)
	// Not t.TempDir: sockets need a short path.
	dir, err := os.MkdirTemp("", "bvm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	run, disk := filepath.Join(dir, "run"), filepath.Join(dir, "disk,raw")
	err = errors.Join(os.Mkdir(run, 0o700), os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return vmm.Spec{
		ID: fmt.Sprintf("%012x", n), Name: fmt.Sprintf("test-%d", n),
		StateDir: dir, RuntimeDir: run, Console: filepath.Join(dir, "console.log"),
		Kernel: a.kernel, Initramfs: a.initramfs,
		VCPUs: 2, MemoryMiB: 512,
		Drives: []vmm.Drive{{ID: "image", Path: a.image, ReadOnly: true}, {ID: "disk", Path: disk}},
		NIC:    vmm.NIC{Tap: vmmtest.NewTap(t, n, 0), MAC: fmt.Sprintf("52:54:00:00:00:%02x", n)},
	}
}
