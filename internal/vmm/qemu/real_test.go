package qemu

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/vmm"
)

// bareSpec describes a VM without a NIC and without a root filesystem.
func bareSpec(t *testing.T) vmm.Spec {
	t.Helper()
	a := needArtifacts(t)
	dir := t.TempDir()
	none := filepath.Join(dir, "empty")
	if err := os.WriteFile(none, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return vmm.Spec{
		Name: "bare", StateDir: dir, RuntimeDir: dir, Console: filepath.Join(dir, "console.log"),
		Kernel: a.kernel, Initramfs: none, VCPUs: 1, MemoryMiB: 256,
	}
}

func TestPanicIsTold(t *testing.T) {
	m, err := newTestDriver(t).Start(t.Context(), bareSpec(t))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	select {
	case <-m.Done():
	case <-time.After(time.Minute):
		t.Error("a kernel without a root filesystem goes on")
		if err := m.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.ExitReason(); !strings.Contains(got, "kernel panicked: VFS: Unable to mount root fs") {
		t.Errorf("exit reason %q", got)
	}
}

func TestRealFailuresAreExplained(t *testing.T) {
	driver := newTestDriver(t)
	for what, c := range map[string]struct {
		change func(*vmm.Spec)
		code   api.Code
		want   string
	}{
		"memory": {func(s *vmm.Spec) { s.MemoryMiB = 1 << 40 }, api.CodeHost, "memory"},
		"disk":   {func(s *vmm.Spec) { s.Drives = []vmm.Drive{{ID: "disk", Path: "/no/such/disk"}} }, api.CodeHost, "/no/such/disk can't be opened: No such file"},
		"kernel": {func(s *vmm.Spec) { s.Kernel = "/no/such/kernel" }, api.CodeHost, "/no/such/kernel can't be loaded"},
	} {
		spec := bareSpec(t)
		c.change(&spec)
		m, err := driver.Start(t.Context(), spec)
		if err == nil {
			t.Errorf("%s: it starts", what)
			_ = m.Kill(t.Context())
			continue
		}
		if e := api.AsError(err); e.Code != c.code || !strings.Contains(e.Msg, c.want) {
			t.Errorf("%s: got %+v", what, e)
		}
	}
}

func TestDiskIsLocked(t *testing.T) {
	driver, spec, second := newTestDriver(t), bareSpec(t), bareSpec(t)
	disk := filepath.Join(spec.StateDir, "disk")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	spec.Drives = []vmm.Drive{{ID: "disk", Path: disk}}
	second.Drives = spec.Drives
	m, err := driver.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := driver.Start(t.Context(), second); !errors.Is(err, api.ErrConflict) {
		t.Errorf("a second VM on the same disk: %v", err)
	}
	if err := m.Kill(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestSystemCallsAreFiltered reads the seccomp mode of a running QEMU; 2 is a
// filter, proc(5).
func TestSystemCallsAreFiltered(t *testing.T) {
	driver := newTestDriver(t)
	m, err := driver.Start(t.Context(), bareSpec(t))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(m.Handle().PID), "status"))
	if err != nil {
		t.Fatal(err)
	}
	if filtered := strings.Contains(string(status), "\nSeccomp:\t2\n"); filtered == driver.noSandbox.Load() {
		t.Errorf("filtered %v, but the driver believes otherwise", filtered)
	}
	if err := m.Kill(t.Context()); err != nil {
		t.Error(err)
	}
}
