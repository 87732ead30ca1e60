package qemu

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
)

func TestCheckNested(t *testing.T) {
	for _, c := range []struct {
		module, value string
		ok            bool
	}{
		{"kvm_intel", "Y\n", true},
		{"kvm_amd", "1\n", true},
		{"kvm_intel", "N\n", false},
		{"kvm_amd", "0\n", false},
		{"loop", "N\n", true},
	} {
		modules := t.TempDir()
		dir := filepath.Join(modules, c.module, "parameters")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "nested"), []byte(c.value), 0o644); err != nil {
			t.Fatal(err)
		}
		err := checkNested(AccelKVM, 2, modules)
		if c.ok != (err == nil) {
			t.Errorf("%s=%q: %v", c.module, c.value, err)
		}
		if !c.ok && (!errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), c.module)) {
			t.Errorf("%s=%q: %v", c.module, c.value, err)
		}
	}
}

func TestCheckNestedEmulated(t *testing.T) {
	if err := checkNested(AccelTCG, 1, t.TempDir()); err != nil {
		t.Errorf("one processor: %v", err)
	}
	if err := checkNested(AccelTCG, 2, t.TempDir()); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("two processors: %v", err)
	}
}
