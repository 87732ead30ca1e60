// Package qemu runs VMs on QEMU, under KVM or emulated in software. It works
// on every Linux machine, and is slower to start than Firecracker.
package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"banger/internal/vmm"
)

// Name is the driver's name in records and output.
const Name = "qemu"

// program is QEMU's name on PATH.
const program = "qemu-system-x86_64"

// startTimeout bounds the time from QEMU's start to its monitor's greeting. It
// takes a tenth of a second on an idle machine.
const startTimeout = 60 * time.Second

// startPoll is how often a starting QEMU's monitor is tried.
const startPoll = 5 * time.Millisecond

// Config says how a Driver runs QEMU.
type Config struct {
	Binary string // absolute; see FindBinary
	Accel  string // AccelKVM or AccelTCG, for VMs started from now on
	Log    *slog.Logger
}

// Driver starts and adopts QEMU processes. It implements vmm.Driver.
type Driver struct {
	config    Config
	noSandbox atomic.Bool // this QEMU or this host can't filter system calls
}

// New returns a driver. It checks nothing; Start tells what is wrong.
func New(c Config) *Driver { return &Driver{config: c} }

// FindBinary returns the absolute path of QEMU: configured if it isn't empty,
// else the one on PATH. A missing QEMU is an api.CodeHost error.
func FindBinary(configured string) (string, error) {
	return vmm.FindBinary("QEMU", cmp.Or(configured, program), "install it: apt install qemu-system-x86")
}

// Name returns "qemu".
func (d *Driver) Name() string { return Name }

// Start starts QEMU and returns as soon as its monitor answers. Failures that
// QEMU explains are *api.Error.
func (d *Driver) Start(ctx context.Context, spec vmm.Spec) (vmm.Machine, error) {
	if err := check(spec); err != nil {
		return nil, err
	}
	if spec.Nested {
		if err := checkNested(d.config.Accel, spec.VCPUs, moduleDir); err != nil {
			return nil, err
		}
	}
	m, err := d.start(ctx, spec)
	if err != nil && !d.noSandbox.Load() && sandboxFailure.MatchString(vmm.ReadTail(logPath(spec), logTail)) {
		d.config.Log.Warn("QEMU can't filter its system calls on this host; it runs without the filter", "error", err)
		d.noSandbox.Store(true)
		m, err = d.start(ctx, spec)
	}
	if err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	return m, nil
}

// sandboxFailure matches what QEMU says when it was built without seccomp, or
// when the kernel or a container forbids to set up a filter.
var sandboxFailure = regexp.MustCompile(`(?i)sandbox support is not enabled|seccomp`)

// nodeName is what QEMU takes as the name of a block device and the guest can
// read as a virtio-blk serial.
var nodeName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,19}$`)

// check finds mistakes of the caller that QEMU would report less clearly.
func check(spec vmm.Spec) error {
	var ids []string
	for _, drive := range spec.Drives {
		if !nodeName.MatchString(drive.ID) || slices.Contains(ids, drive.ID) {
			return fmt.Errorf("start QEMU: drive id %q is malformed or used twice", drive.ID)
		}
		ids = append(ids, drive.ID)
	}
	if spec.VCPUs < 1 || spec.MemoryMiB < 1 {
		return fmt.Errorf("start QEMU: a machine can't have %d vCPUs and %d MiB of memory", spec.VCPUs, spec.MemoryMiB)
	}
	return nil
}

func (d *Driver) start(ctx context.Context, spec vmm.Spec) (*Machine, error) {
	if err := vmm.BeginConsole(spec.Console, "QEMU ("+d.config.Accel+")"); err != nil {
		return nil, err
	}
	// What an earlier QEMU left would be taken for this one's.
	if err := removeSockets(spec); err != nil {
		return nil, err
	}
	args := Args(spec, d.config.Accel)
	if !d.noSandbox.Load() {
		args = append(args, sandbox...)
	}
	process, err := vmm.Spawn(vmm.Command{
		Path: d.config.Binary, Args: args, Dir: spec.RuntimeDir, Log: logPath(spec), MaxFile: vmm.LargestFile(spec),
	})
	if err != nil {
		return nil, err
	}
	m := newMachine(spec, vmm.Handle{
		Driver: Name, PID: process.PID(), StartTime: process.StartTime(), Accel: d.config.Accel,
	}, process, d.config.Log)
	if m.qmp, err = waitQMP(ctx, spec, process, m.onEvent); err != nil {
		return nil, errors.Join(err, process.KillAnyway(ctx), process.Close(), removeSockets(spec))
	}
	m.run()
	return m, nil
}

// waitQMP connects to the monitor of a QEMU that has just been started.
func waitQMP(ctx context.Context, spec vmm.Spec, process *vmm.Process, onEvent func(qmpEvent)) (*qmpClient, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		client, err := dialQMP(ctx, QMPSocket(spec.RuntimeDir), onEvent)
		if err == nil {
			return client, nil
		}
		select {
		case <-process.Done():
			return nil, explain(spec, vmm.ReadTail(logPath(spec), logTail), process.ExitState())
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-time.After(startPoll):
		}
	}
}

// Adopt connects to a QEMU that an earlier bangerd started. When that bangerd
// has just died, QEMU may take a moment to notice.
func (d *Driver) Adopt(ctx context.Context, spec vmm.Spec, h vmm.Handle) (vmm.Machine, error) {
	process, err := h.Open(Name, "QEMU")
	if err != nil {
		return nil, err
	}
	m := newMachine(spec, h, process, d.config.Log)
	if m.qmp, err = dialQMP(ctx, QMPSocket(spec.RuntimeDir), m.onEvent); err != nil {
		return nil, errors.Join(fmt.Errorf("adopt QEMU, process %d: %w", h.PID, process.OrGone(err)), process.Close())
	}
	m.run()
	return m, nil
}

func removeSockets(spec vmm.Spec) error {
	return vmm.RemoveSockets(QMPSocket(spec.RuntimeDir), AgentSocket(spec.RuntimeDir))
}
