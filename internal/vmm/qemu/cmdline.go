package qemu

import "banger/internal/vmm"

// Cmdline is the kernel command line of every VM under QEMU; whatever is
// particular to a VM reaches it through the agent. It was measured under
// emulation, where a boot takes longest.
//
//   - console=ttyS0: the console goes to the VM's console log.
//   - quiet: warnings and worse only, so that the console log is about what
//     went wrong. Emulated boots take as long without it; under KVM each byte
//     on the serial line is an exit.
//   - panic=-1: a kernel that panicked resets at once, which ends QEMU, so
//     that nobody waits for a guest that is dead.
//   - no_timer_check: the kernel's test of the timer interrupt counts ticks
//     during a few milliseconds; on a busy host, emulation can miss them, and
//     the kernel panics with "IO-APIC + timer doesn't work". KVM guests skip
//     the test by themselves.
//   - cryptomgr.notests: no self-tests of every cipher at each boot; they take
//     a sixth of an emulated boot (0.5 s of 3.2 s of processor time).
//
// Without a measured effect, and so left out: tsc=reliable, mitigations=off,
// rcupdate.rcu_expedited=1, nowatchdog, lpj=, i8042.*, 8250.nr_uarts=1,
// nokaslr (an ELF kernel isn't relocated anyway).
const Cmdline = "console=ttyS0 quiet panic=-1 no_timer_check cryptomgr.notests"

func cmdline(spec vmm.Spec) string {
	if spec.Cmdline == "" {
		return Cmdline
	}
	return spec.Cmdline
}
