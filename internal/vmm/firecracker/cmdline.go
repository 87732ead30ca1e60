package firecracker

import "banger/internal/vmm"

// Cmdline is the kernel command line of every VM under Firecracker; whatever
// is particular to a VM reaches it through the agent. Firecracker appends
// pci=off and, for kernels without ACPI, a virtio_mmio.device for each device.
//
//   - console=ttyS0: the console goes to the VM's console log, where the
//     driver also learns of a panic and of a guest that powered off.
//   - quiet: warnings and worse only. Each byte on the serial line costs the
//     guest an exit.
//   - reboot=k: a reset goes through the keyboard controller, the only way
//     that ends Firecracker with success.
//   - panic=-1: a kernel that panicked resets at once, so that nobody waits
//     for a guest that is dead.
//   - i8042.*: the keyboard controller has no mouse and no multiplexer, and
//     its keyboard doesn't answer. Without these the kernel waits for them.
//   - 8250.nr_uarts=1: there is one serial port; don't probe for three more.
//   - swiotlb=noforce: virtio devices reach all of the memory.
//   - cryptomgr.notests: no self-tests of every cipher at each boot.
//
// Firecracker's own default isn't used: its nomodule forbids loading modules,
// and distribution kernels have their virtio drivers as such.
const Cmdline = "console=ttyS0 quiet reboot=k panic=-1 " + keyboardArgs +
	" 8250.nr_uarts=1 swiotlb=noforce cryptomgr.notests"

// keyboardArgs are those about the keyboard controller.
const keyboardArgs = "i8042.noaux i8042.nomux i8042.dumbkbd"

func cmdline(spec vmm.Spec) string {
	if spec.Cmdline == "" {
		return Cmdline
	}
	return spec.Cmdline
}
