package vm

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm/vmmtest"
)

// TestSwap: a VM has a new file to swap to at every start, and none while it is
// stopped.
func TestSwap(t *testing.T) {
	w := newWorld(t)
	const size = 64 << 20
	devices := make(chan string, 2)
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		agent := vmmtest.NewAgent(vm)
		agent.OnBoot = func(c guest.BootConfig) error { devices <- c.SwapDevice; return nil }
		return agent.Serve
	})
	vm := w.create(t, api.CreateVM{Name: "swaps", Shape: api.Shape{SwapBytes: size}})
	file := w.config.Layout.VMSwap(vm.ID)
	check := func() {
		t.Helper()
		info, err := os.Stat(file)
		if err != nil || info.Size() != size || vm.SwapBytes != size {
			t.Fatalf("the file: %v, %v; the VM has %d bytes", info, err, vm.SwapBytes)
		}
		if device := <-devices; device == "" {
			t.Error("the guest isn't told of it")
		}
	}
	check()
	if err := os.WriteFile(file, []byte("a secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Stop(t.Context(), "swaps", api.StopVM{}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a stopped VM's file: %v", err)
	}
	if _, err := w.Start(t.Context(), "swaps", api.StartVM{}, nil); err != nil {
		t.Fatal(err)
	}
	check()
	for _, size := range []int64{-1, 1, 1 << 50} {
		if _, err := w.Create(t.Context(), api.CreateVM{Shape: api.Shape{SwapBytes: size}}, nil); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}
