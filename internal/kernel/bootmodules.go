package kernel

// wantedModule is a module that boots need.
type wantedModule struct {
	Name     string
	Required bool // without it no VM boots
}

// bootModules are the drivers that the agent needs before it has the root
// file system, and so can't load from it. QEMU's devices are on PCI,
// Firecracker's on MMIO. What is built into one kernel is a module of another,
// and brings further modules along; loadOrder finds out.
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
		// Loads under KVM only.
		{"ptp_kvm", false},
	}
}
