package main

import (
	"context"
	"log/slog"

	"banger/internal/api"
	"banger/internal/config"
	"banger/internal/kernel"
	"banger/internal/paths"
	"banger/internal/rootless"
	"banger/internal/setup"
	"banger/internal/vm"
	"banger/internal/vmm"
	"banger/internal/vmm/firecracker"
	"banger/internal/vmm/kvmprobe"
	"banger/internal/vmm/qemu"
)

// probeKernel is the kernel that the KVM probe tries when no VM is asked for.
const probeKernel = "generic-6.12"

// driverAuto is the configured driver that leaves the choice to banger.
const driverAuto = "auto"

// drivers chooses how VMs are started on this host.
type drivers struct {
	config  config.Config
	layout  paths.Layout
	kernels *kernel.Store
	log     *slog.Logger
}

// Choose picks Firecracker if that really runs a stock kernel here, else QEMU
// with KVM if that does, else QEMU with emulation. A nested VM is always
// QEMU's, for Firecracker hides the extensions that it would need.
func (d *drivers) Choose(ctx context.Context, k kernel.Kernel, nested bool) (vm.Choice, error) {
	choice, _, err := d.choose(ctx, k, nested)
	return choice, err
}

// choose is Choose with what the probe that decided has shown.
func (d *drivers) choose(ctx context.Context, k kernel.Kernel, nested bool) (vm.Choice, api.KVMProbe, error) {
	binary, missing := d.findFirecracker()
	switch {
	case d.config.Driver == firecracker.Name && nested:
		return vm.Choice{}, api.KVMProbe{}, api.Errorf(api.CodeInvalid, "a VM on Firecracker can't run VMs itself").
			WithHint("leave --nested out, or set driver = \"auto\" in config.toml")
	case d.config.Driver == firecracker.Name && missing != nil:
		return vm.Choice{}, api.KVMProbe{}, missing
	case d.config.Driver == firecracker.Name:
		return d.onFirecracker(binary), api.KVMProbe{Detail: "it wasn't tried, as the configuration asks for Firecracker"}, nil
	case d.config.Driver == driverAuto && missing == nil && !nested:
		probe, err := d.prober().Probe(ctx, firecracker.ProbeVMM(binary, k.Vmlinux))
		if err != nil {
			return vm.Choice{}, probe, err
		}
		if probe.Usable {
			return d.onFirecracker(binary), probe, nil
		}
		return d.chooseQEMU(ctx, k, probe)
	}
	return d.chooseQEMU(ctx, k, api.KVMProbe{})
}

// chooseQEMU chooses how QEMU runs VMs. tried is what Firecracker found out
// about KVM, if it was asked.
func (d *drivers) chooseQEMU(ctx context.Context, k kernel.Kernel, tried api.KVMProbe) (vm.Choice, api.KVMProbe, error) {
	binary, err := qemu.FindBinary("")
	if err != nil {
		if tried.Detail != "" {
			err = api.Errorf(api.CodeHost, "KVM can't be used here (%s), and QEMU, which can do without, isn't installed", tried.Detail).
				WithHint("%s", api.AsError(err).Hint)
		}
		return vm.Choice{}, tried, err
	}
	probe, err := d.prober().Probe(ctx, qemu.ProbeVMM(binary, k.Vmlinux))
	if err != nil {
		return vm.Choice{}, probe, err
	}
	choice := vm.Choice{Accel: qemu.AccelKVM, Why: "with KVM"}
	if !probe.Usable {
		choice = vm.Choice{
			Accel: qemu.AccelTCG,
			Why:   "by software emulation, as KVM can't be used here",
		}
	}
	choice.Driver = qemu.New(qemu.Config{Binary: binary, Accel: choice.Accel, Log: d.log})
	return choice, probe, nil
}

// findFirecracker returns the configured Firecracker, else the one on PATH, else
// the one that "banger setup" installed.
func (d *drivers) findFirecracker() (string, error) {
	binary, err := firecracker.FindBinary(d.config.FirecrackerBin)
	if err != nil && d.config.FirecrackerBin == "" {
		if there, ok := setup.Installed(d.layout.FirecrackerDir()); ok {
			return there.Firecracker, nil
		}
	}
	return binary, err
}

func (d *drivers) onFirecracker(binary string) vm.Choice {
	config := firecracker.Config{Binary: binary, Jailer: d.jailer(binary), Log: d.log}
	return vm.Choice{Driver: firecracker.New(config), Accel: qemu.AccelKVM, Why: "with KVM"}
}

// jailer returns how the VMs of a Firecracker are jailed. A user namespace's
// root isn't the one that a jailer needs; Driver.Start tells so in mode on.
func (d *drivers) jailer(firecrackerBinary string) firecracker.Jailer {
	return firecracker.Jailer{
		Mode:     firecracker.JailerMode(d.config.Jailer),
		Binary:   firecracker.FindJailer(firecrackerBinary),
		Rootless: rootless.Inside(),
	}
}

func (d *drivers) prober() *kvmprobe.Prober {
	return &kvmprobe.Prober{Cache: d.layout.KVMProbe(), Log: d.log}
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

// Problems tells what a plain user's namespaces lack.
func (d *drivers) Problems() []string {
	if !rootless.Inside() {
		return nil
	}
	return rootless.Problems(d.layout)
}

// Host tells what Choose would choose. The probe needs a kernel to boot, so
// until one was made there is nothing to tell of KVM.
func (d *drivers) Host(ctx context.Context) (api.Host, error) {
	host := api.Host{Rootless: rootless.Inside()}
	k, err := d.kernels.Find(ctx, probeKernel)
	if err != nil {
		host.Why = "KVM is tried when the first VM starts: no kernel is here yet"
		return host, nil
	}
	choice, probe, err := d.choose(ctx, k, false)
	host.KVM = probe
	if err != nil {
		return host, err
	}
	host.Driver, host.Accel, host.Why = choice.Driver.Name(), choice.Accel, choice.Why
	return host, nil
}
