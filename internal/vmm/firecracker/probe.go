package firecracker

import (
	"encoding/json"

	"banger/internal/vmm/kvmprobe"
)

// vmConfig is the content of --config-file, which configures a VM without the
// API: its fields have the bodies of the API's requests.
type vmConfig struct {
	BootSource    bootSource    `json:"boot-source"`
	MachineConfig machineConfig `json:"machine-config"`
	Drives        []drive       `json:"drives"` // must be there
}

// ProbeVMM tells how Firecracker tries whether KVM runs a kernel.
func ProbeVMM(binary, kernel string) kvmprobe.VMM {
	config, err := json.Marshal(vmConfig{
		BootSource:    bootSource{KernelImagePath: kernel, BootArgs: "console=ttyS0 reboot=k panic=-1 " + keyboardArgs},
		MachineConfig: machineConfig{VCPUCount: 1, MemSizeMiB: 256},
		Drives:        []drive{},
	})
	if err != nil {
		panic(err) // strings and numbers have a form in JSON
	}
	return kvmprobe.VMM{
		Name: "Firecracker", Binary: binary, Kernel: kernel,
		Args:  []string{"--id", "probe", "--no-api", "--config-file", "/dev/stdin"},
		Input: string(config),
	}
}
