package qemu

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"banger/internal/guest"
	"banger/internal/vmm"
)

// Accelerators, as in vmm.Handle.
const (
	AccelKVM = "kvm"
	AccelTCG = "tcg" // emulation in software
)

// machine is the q35 board less what no guest of ours uses. q35 and not
// microvm: under emulation the latter lost its timer in one boot of six.
//
//   - smm=off: system management mode makes the firmware set up a handler on
//     every processor; it serves UEFI secure boot only.
//   - vmport, smbus, sata, usb, graphics, hpet: devices that nobody uses are
//     only something to attack. They make no difference to the boot's time.
//   - dump-guest-core=off: a core dump of QEMU doesn't hold the guest's memory.
const machine = "q35,smm=off,vmport=off,smbus=off,sata=off,usb=off,graphics=off,hpet=off,dump-guest-core=off"

// sandbox is the system call filter: QEMU can't execute programs or change
// its user once it is set up.
var sandbox = []string{"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"}

// QMPSocket is where a VM's QEMU listens for its monitor's client.
func QMPSocket(runtimeDir string) string { return filepath.Join(runtimeDir, "qmp.sock") }

// AgentSocket is the host's end of the virtio-serial port to the agent.
func AgentSocket(runtimeDir string) string { return filepath.Join(runtimeDir, "agent.sock") }

// Args returns QEMU's arguments for a VM, without the sandbox's.
func Args(spec vmm.Spec, accel string) []string {
	args := []string{
		"-name", "guest=" + escape(spec.Name),
		"-nodefaults", "-no-user-config", "-display", "none",
		"-machine", machine,
	}
	args = append(args, accelArgs(accel, spec.Nested)...)
	args = append(args,
		"-smp", strconv.Itoa(spec.VCPUs),
		"-m", fmt.Sprintf("%dM", spec.MemoryMiB),
		// The guest's reset ends QEMU: banger starts it anew, with a fresh
		// configuration. See Machine.ExitReason for how a panic is told apart.
		"-action", "reboot=shutdown,shutdown=poweroff,panic=shutdown",
		"-kernel", spec.Kernel, "-initrd", spec.Initramfs, "-append", cmdline(spec),
		// One client at a time; wait=off: QEMU doesn't wait for one.
		"-chardev", "socket,id=qmp,server=on,wait=off,path="+escape(QMPSocket(spec.RuntimeDir)),
		"-mon", "chardev=qmp,mode=control",
		// Append mode lets the console be cut while QEMU writes to it.
		"-chardev", "file,id=console,append=on,path="+escape(spec.Console),
		"-serial", "chardev:console",
		// A panic reaches the host as an event, and ends QEMU, once the guest
		// has loaded its pvpanic driver.
		"-device", "pvpanic",
		"-device", "virtio-rng-pci",
		"-chardev", "socket,id=agent,server=on,wait=off,path="+escape(AgentSocket(spec.RuntimeDir)),
		"-device", "virtio-serial-pci,max_ports=2", // port 0 is reserved for a console
		"-device", "virtserialport,chardev=agent,name="+guest.SerialPortName,
	)
	for _, drive := range spec.Drives {
		args = append(args, driveArgs(drive)...)
	}
	return append(args, nicArgs(spec.NIC)...)
}

// accelArgs chooses the processor. A nested one has SVM or VMX, the extensions
// that KVM in the guest needs: under KVM the host's own, which other VMs don't
// get, as it is only something to attack. Under emulation it is an EPYC, whose
// SVM comes with all the leaves of CPUID that VMMs look for on an AMD processor;
// those of max end before them.
func accelArgs(accel string, nested bool) []string {
	switch {
	case accel == AccelKVM && nested:
		return []string{"-accel", "kvm", "-cpu", "host"}
	case accel == AccelKVM:
		return []string{"-accel", "kvm", "-cpu", "host,svm=off,vmx=off"}
	}
	cpu := "max"
	if nested {
		cpu = "EPYC"
	}
	// thread=single: the guest's processors take turns on one host thread. With
	// a thread each (multi), QEMU 7.2 lets one processor run code that another
	// has just patched: kernels, which patch themselves when a static key
	// changes, died of that ("Oops: int3") in one boot of a hundred when idle,
	// and in one of ten when busy.
	return []string{"-accel", "tcg,thread=single", "-cpu", cpu}
}

// driveArgs attaches a raw file. Both kinds go through the host's page cache:
// a read-only image is held in memory once for all its VMs, and the guest's
// flushes of a writable disk are passed on as fdatasync, so that what the
// guest synced survives the host's crash. discard=unmap gives blocks that the
// guest trims back to the host: a sparse file shrinks. QEMU's locks stay on:
// they let many VMs read an image, and keep a disk from two VMMs.
func driveArgs(d vmm.Drive) []string {
	block := "driver=raw,node-name=" + d.ID
	if d.ReadOnly {
		block += ",read-only=on"
	} else {
		block += ",discard=unmap"
	}
	block += ",cache.direct=off,file.driver=file,file.aio=threads,file.filename=" + escape(d.Path)
	return []string{
		"-blockdev", block,
		"-device", "virtio-blk-pci,drive=" + d.ID + ",serial=" + d.ID,
	}
}

// nicArgs connects a tap that exists already; without one there is no NIC.
// romfile is empty as nothing boots from the network.
func nicArgs(n vmm.NIC) []string {
	if n.Tap == "" {
		return nil // -nodefaults leaves out QEMU's own
	}
	return []string{
		"-netdev", "tap,id=net,script=no,downscript=no,ifname=" + escape(n.Tap),
		"-device", "virtio-net-pci,netdev=net,romfile=,mac=" + escape(n.MAC),
	}
}

// escape doubles commas, which separate QEMU's options.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }
