// Package firecracker runs VMs on Firecracker (https://firecracker-microvm.github.io),
// which starts within milliseconds and needs a KVM that works.
package firecracker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"time"

	"banger/internal/api"
	"banger/internal/undo"
	"banger/internal/vmm"
)

// Name is the driver's name in records and output.
const Name = "firecracker"

// accel is what Firecracker runs VMs with, as in vmm.Handle. There is nothing
// else.
const accel = "kvm"

// startTimeout bounds the time from Firecracker's start to the guest's first
// instruction. It takes some ten milliseconds.
const startTimeout = 60 * time.Second

// startPoll is how often a starting Firecracker's API is tried.
const startPoll = 2 * time.Millisecond

// maxVCPUs is Firecracker's limit.
const maxVCPUs = 32

// Config says how a Driver runs Firecracker.
type Config struct {
	Binary string // absolute; see FindBinary
	Jailer Jailer
	Limits NetworkLimits // of each VM
	Log    *slog.Logger
}

// Driver starts and adopts Firecracker processes. It implements vmm.Driver,
// vmm.DriveNamer and vmm.Cleaner.
type Driver struct {
	config       Config
	haltInterval time.Duration
}

var (
	_ vmm.Driver     = (*Driver)(nil)
	_ vmm.DriveNamer = (*Driver)(nil)
	_ vmm.Cleaner    = (*Driver)(nil)
)

// New returns a driver. It checks nothing; Start tells what is wrong.
func New(c Config) *Driver { return &Driver{config: c, haltInterval: haltInterval} }

// Name returns "firecracker".
func (d *Driver) Name() string { return Name }

// Start starts Firecracker and returns as soon as the guest's processors run.
// What Firecracker refuses is an *api.Error where users can do something about
// it.
func (d *Driver) Start(ctx context.Context, spec vmm.Spec) (vmm.Machine, error) {
	if err := check(spec); err != nil {
		return nil, fmt.Errorf("start Firecracker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	m, err := d.start(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("start Firecracker: %w", err)
	}
	return m, nil
}

// check finds mistakes of the caller that Firecracker would report less
// clearly.
func check(spec vmm.Spec) error {
	if spec.VCPUs < 1 || spec.VCPUs > maxVCPUs {
		return api.Errorf(api.CodeInvalid, "a VM on Firecracker can have 1 to %d vCPUs, not %d", maxVCPUs, spec.VCPUs)
	}
	if spec.MemoryMiB < 1 {
		return fmt.Errorf("a machine can't have %d MiB of memory", spec.MemoryMiB)
	}
	return checkDrives(spec.Drives)
}

func (d *Driver) start(ctx context.Context, spec vmm.Spec) (_ *Machine, err error) {
	steps := undo.New()
	defer func() { err = steps.Finish(err) }()

	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := errors.Join(removeSockets(spec.RuntimeDir), keepOldConsole(spec.Console)); err != nil {
		return nil, err
	}
	place, err := d.prepare(ctx, spec, steps)
	if err != nil {
		return nil, err
	}
	if err := createLogs(place.logs); err != nil {
		return nil, err
	}
	if err := place.own(logName, metricsName); err != nil {
		return nil, err
	}
	process, err := vmm.Spawn(place.command)
	if err != nil {
		return nil, err
	}
	steps.Add("remove Firecracker's sockets", func(context.Context) error { return removeSockets(place.dir) })
	steps.Add("let go of Firecracker", func(context.Context) error { return process.Close() })
	steps.Add("end Firecracker", func(ctx context.Context) error { return process.Kill(ctx) })
	if err := vmm.BeginConsole(spec.Console, filepath.Base(d.config.Binary)+" (kvm)"); err != nil {
		return nil, err
	}

	m := newMachine(spec, vmm.Handle{
		Driver: Name, PID: process.PID(), StartTime: process.StartTime(), Accel: accel,
	}, process, place, d)
	steps.Add("disconnect from Firecracker", func(context.Context) error { m.api.close(); return nil })
	if err := d.boot(ctx, m, place.view); err != nil {
		return nil, m.explain(err)
	}
	if err := place.release(); err != nil {
		return nil, err
	}
	m.run()
	return m, nil
}

// boot configures a Firecracker that has just been started, and starts the
// guest. view is the VM with its files under the names that Firecracker has
// for them.
func (d *Driver) boot(ctx context.Context, m *Machine, view vmm.Spec) error {
	release, err := m.awaitAPI(ctx)
	if err != nil {
		return err
	}
	if release.less(oldest) {
		return api.Errorf(api.CodeHost, "Firecracker %v is too old; %v is the oldest that works", release, oldest).
			WithHint("install a newer release of Firecracker")
	}
	for _, r := range requests(view, d.config.Limits) {
		if err := m.api.do(ctx, r, nil); err != nil {
			return err
		}
	}
	return nil
}

// Adopt connects to a Firecracker that an earlier bangerd started.
func (d *Driver) Adopt(ctx context.Context, spec vmm.Spec, h vmm.Handle) (vmm.Machine, error) {
	process, err := h.Open(Name, "Firecracker")
	if err != nil {
		return nil, err
	}
	place, err := d.find(spec)
	if err == nil {
		m := newMachine(spec, h, process, place, d)
		if err = m.identify(ctx); err == nil {
			m.run()
			return m, nil
		}
		m.api.close()
	}
	return nil, errors.Join(fmt.Errorf("adopt Firecracker, process %d: %w", h.PID, process.OrGone(err)), process.Close())
}

// instancePattern matches what Firecracker takes as the id of an instance.
var instancePattern = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// instanceID names the VM in Firecracker's log and arguments.
func instanceID(spec vmm.Spec) string {
	if id := spec.Name + "-" + spec.ID; instancePattern.MatchString(id) {
		return id
	}
	return spec.ID
}

// removeSockets removes the sockets in a Firecracker's working directory,
// which it never does itself. It wouldn't start while they exist.
func removeSockets(dir string) error {
	return vmm.RemoveSockets(filepath.Join(dir, apiSocket), filepath.Join(dir, vsockSocket))
}
