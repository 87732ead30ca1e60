package firecracker

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/vmm/kvmprobe"
)

func TestFindBinary(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := FindBinary(""); !errors.Is(err, api.ErrHost) {
		t.Errorf("got %v", err)
	}
	fake := fakeBinary(t, newestFake)
	if got, err := FindBinary(fake); err != nil || got != fake {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestRealProbe finds KVM usable with a real Firecracker.
func TestRealProbe(t *testing.T) {
	binary, f, here := needReal(t)
	if !here {
		return
	}
	p := &kvmprobe.Prober{Cache: filepath.Join(t.TempDir(), "probe.json"), Log: testLog(t)}
	result, err := p.Probe(t.Context(), ProbeVMM(binary, f.kernel))
	if err != nil {
		t.Fatal(err)
	}
	// A VM in an emulated machine may take longer than a probe waits.
	if !result.Usable && !strings.Contains(result.Detail, "didn't finish booting") {
		t.Errorf("KVM isn't usable: %s", result.Detail)
	}
}
