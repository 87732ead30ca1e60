package qemu

import "banger/internal/vmm/kvmprobe"

// ProbeVMM tells how QEMU tries whether KVM runs a kernel: as it runs a VM, without
// what a kernel that has no root doesn't need.
func ProbeVMM(binary, kernel string) kvmprobe.VMM {
	args := []string{"-nodefaults", "-no-user-config", "-display", "none", "-machine", machine}
	args = append(args, accelArgs(AccelKVM, false)...)
	args = append(args, "-smp", "1", "-m", "256M", "-action", "reboot=shutdown", "-serial", "stdio",
		"-kernel", kernel, "-append", "console=ttyS0 panic=-1")
	return kvmprobe.VMM{Name: "QEMU", Binary: binary, Args: args, Kernel: kernel}
}
