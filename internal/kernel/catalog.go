package kernel

import (
	"maps"
	"runtime"
	"slices"
)

// recipe is how a kernel is made of a distribution's package.
type recipe struct {
	Arch    string // as Debian and Go call it
	Suite   string
	Package string // brings the kernel in as a dependency, so that it stays current
	Modules []wantedModule
}

// wantedModule is a module that boots need.
type wantedModule struct {
	Name     string
	Required bool // without it no VM boots
}

// catalog returns the known kernels for this machine, by name.
func catalog() map[string]recipe {
	if runtime.GOARCH != "amd64" {
		return nil
	}
	return map[string]recipe{
		"generic-6.12": {
			Arch:    "amd64",
			Suite:   "trixie",
			Package: "linux-image-cloud-amd64",
			Modules: bootModules(),
		},
	}
}

// bootModules are the drivers that the agent needs before it has the root
// file system, and so can't load from it. QEMU's devices are on PCI,
// Firecracker's on MMIO.
func bootModules() []wantedModule {
	return []wantedModule{
		{"virtio_pci", true},
		{"virtio_mmio", true},
		{"virtio_console", true},
		{"virtio_blk", true},
		{"virtio_net", true},
		{"ext4", true},
		{"overlay", true},
		{"virtio_rng", false},
		{"vmw_vsock_virtio_transport", false},
		// Loads under KVM only; ENODEV elsewhere.
		{"ptp_kvm", false},
	}
}

// Names returns the names of the catalog, sorted.
func Names() []string { return slices.Sorted(maps.Keys(catalog())) }
