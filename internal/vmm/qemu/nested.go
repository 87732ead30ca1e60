package qemu

import (
	"os"
	"path/filepath"
	"strings"

	"banger/internal/api"
)

// moduleDir has a directory for each module of the host's kernel.
const moduleDir = "/sys/module"

// checkNested tells whether a VM that runs VMs itself works here. The host's KVM
// must let its guests use KVM themselves: parameter nested of the module that is
// loaded, "1" or "Y" if so. If none is seen, QEMU has the last word.
//
// An emulated one can have one processor only. With two, QEMU 7.2 spoilt the
// state of the VMs in it: of a dozen kernels ten waited for ever on a spin lock
// that nobody held, or panicked; with one, all of sixty booted.
func checkNested(accel string, vcpus int, modules string) error {
	if accel == AccelTCG {
		if vcpus > 1 {
			return api.Errorf(api.CodeInvalid, "an emulated VM that runs VMs itself can have one processor only: QEMU spoils its VMs otherwise").
				WithHint("use --vcpus 1")
		}
		return nil
	}
	for _, module := range []string{"kvm_intel", "kvm_amd"} {
		value, err := os.ReadFile(filepath.Join(modules, module, "parameters", "nested"))
		if err != nil {
			continue // the other vendor's
		}
		switch strings.TrimSpace(string(value)) {
		case "1", "Y":
			return nil
		}
		return api.Errorf(api.CodeHost, "no VM of this host can run VMs itself: nested virtualisation is off in its module %s", module).
			WithHint("stop all VMs, then: sudo modprobe -r %s && sudo modprobe %s nested=1", module, module)
	}
	return nil
}
