package main

import (
	"context"
	"log/slog"

	"banger/internal/api"
	"banger/internal/config"
	"banger/internal/kernel"
	"banger/internal/paths"
	"banger/internal/rootless"
	"banger/internal/vm"
	"banger/internal/vmm"
	"banger/internal/vmm/firecracker"
	"banger/internal/vmm/qemu"
)

// probeKernel is the kernel that the KVM probe tries when no VM is asked for.
const probeKernel = "generic-6.12"

// drivers chooses how VMs are started on this host.
type drivers struct {
	config  config.Config
	layout  paths.Layout
	kernels *kernel.Store
	log     *slog.Logger
}

// Choose picks Firecracker or QEMU with KVM if that really runs a stock kernel
// here, else QEMU with emulation.
func (d *drivers) Choose(ctx context.Context, k kernel.Kernel) (vm.Choice, error) {
	if d.config.Driver == firecracker.Name { // it needs no opinion of QEMU's
		return d.choose(api.KVMProbe{})
	}
	probe, err := d.probe(ctx, k)
	if err != nil {
		return vm.Choice{}, err
	}
	return d.choose(probe)
}

func (d *drivers) choose(probe api.KVMProbe) (vm.Choice, error) {
	fc, noFirecracker := firecracker.FindBinary(d.config.FirecrackerBin)
	switch {
	case d.config.Driver == firecracker.Name && noFirecracker != nil:
		return vm.Choice{}, noFirecracker
	case d.config.Driver == firecracker.Name, d.config.Driver == "auto" && probe.Usable && noFirecracker == nil:
		driver := firecracker.New(firecracker.Config{Binary: fc, Log: d.log})
		return vm.Choice{Driver: driver, Accel: qemu.AccelKVM, Why: "with KVM"}, nil
	}
	binary, err := qemu.FindBinary("")
	if err != nil {
		return vm.Choice{}, err
	}
	choice := vm.Choice{Accel: qemu.AccelKVM, Why: "with KVM"}
	if !probe.Usable {
		choice = vm.Choice{
			Accel: qemu.AccelTCG,
			Why:   "by software emulation, as KVM can't be used here",
		}
	}
	choice.Driver = qemu.New(qemu.Config{Binary: binary, Accel: choice.Accel, Log: d.log})
	return choice, nil
}

// probe finds out whether KVM runs a stock kernel. QEMU does the trying.
func (d *drivers) probe(ctx context.Context, k kernel.Kernel) (api.KVMProbe, error) {
	binary, err := qemu.FindBinary("")
	if err != nil {
		return api.KVMProbe{}, err
	}
	prober := qemu.Prober{Binary: binary, Kernel: k.Vmlinux, Cache: d.layout.KVMProbe(), Log: d.log}
	return prober.Probe(ctx)
}

// Named returns the driver that adopts a running VMM, for which it needs no
// program.
func (d *drivers) Named(name string) (vmm.Driver, error) {
	switch name {
	case qemu.Name:
		return qemu.New(qemu.Config{Log: d.log}), nil
	case firecracker.Name:
		return firecracker.New(firecracker.Config{Log: d.log}), nil
	}
	return nil, api.Errorf(api.CodeInternal, "no driver is named %q", name)
}

// Host tells what Choose would choose. The probe needs a kernel to boot, so
// until one was made there is nothing to tell of KVM.
func (d *drivers) Host(ctx context.Context) (api.Host, error) {
	host := api.Host{Rootless: rootless.Inside()}
	k, err := d.kernels.Get(probeKernel)
	if err != nil {
		host.Why = "KVM is tried when the first VM starts: no kernel is here yet"
		return host, nil
	}
	if host.KVM, err = d.probe(ctx, k); err != nil {
		return host, err
	}
	choice, err := d.choose(host.KVM)
	if err != nil {
		return host, err
	}
	host.Driver, host.Accel, host.Why = choice.Driver.Name(), choice.Accel, choice.Why
	return host, nil
}
