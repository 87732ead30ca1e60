package vm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/image"
	"banger/internal/naming"
	"banger/internal/network"
	"banger/internal/vmm"
)

// The drives of a VM, by vmm.Drive.ID.
const (
	imageDrive   = "image"
	modulesDrive = "modules"
	diskDrive    = "disk"
	swapDrive    = "swap"
)

// bootAttempts is how often a VMM is started before a guest that dies without
// a word from its agent is given up (docs/adr/0008): nothing has run in it that
// could be lost.
const bootAttempts = 2

// launch brings a VM from stopped to booting.
func (b *bringUp) launch(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := b.take(ctx, b.connect, b.startVMM, b.awaitAgent)
		if err == nil {
			return b.bootGuest(ctx)
		}
		if b.inst == nil || b.inst.alive() || ctx.Err() != nil || attempt == bootAttempts {
			return err
		}
		if err := b.inst.awaitGone(ctx); err != nil {
			return err
		}
		b.log.Warn("the guest died before its agent answered; it is started once more", "vm", b.rec.Name, "err", err)
		b.inst = nil
	}
}

// connect gives the VM its place in the network, and another address if the network
// has become another one since it got its own.
func (b *bringUp) connect(ctx context.Context) error {
	return b.phases.run("network", "connecting the network", func() error {
		id, addr := b.rec.ID, b.rec.IP
		b.undo.Add("disconnect VM "+b.rec.Name, func(ctx context.Context) error {
			return b.cleanRuntime(ctx, Record{ID: id, IP: addr})
		})
		for {
			addr = b.rec.IP
			nic, err := b.cfg.Network.Attach(ctx, b.rec.port())
			if !errors.Is(err, network.ErrElsewhere) {
				b.nic = nic
				return err
			}
			if b.rec, err = b.records.readdress(ctx, b.rec, b.cfg.Network.Hosts()); err != nil {
				return err
			}
		}
	})
}

// port is the VM's place in the network.
func (r *Record) port() network.Port {
	return network.Port{ID: r.ID, Addr: r.IP, HostPorts: r.HostPorts}
}

// startVMM starts the VMM. The record says so beforehand, and holds its handle
// as soon as there is one.
func (b *bringUp) startVMM(ctx context.Context) error {
	choice, err := b.cfg.Drivers.Choose(ctx, b.assets.kernel, b.rec.Nested)
	if err != nil {
		return err
	}
	var machine vmm.Machine
	err = b.phases.run("vmm", "starting "+choice.Driver.Name()+" "+choice.Why, func() (err error) {
		if err := b.prepareVMM(ctx, choice); err != nil {
			return err
		}
		machine, err = choice.Driver.Start(ctx, b.spec(b.rec, b.assets))
		return err
	})
	if err != nil {
		return err
	}
	handle := machine.Handle()
	err = b.update(ctx, func(r *Record) {
		if r.advance(StageLaunching, StageBooting) {
			r.Handle = &handle
		}
	})
	inst := b.track(b.rec, choice.Driver, machine)
	b.inst = inst
	b.undo.Add("end the VMM of "+b.rec.Name, func(ctx context.Context) error { return inst.kill(ctx) })
	return err
}

// prepareVMM makes what a VMM wants to find, and writes down that it is started.
func (b *bringUp) prepareVMM(ctx context.Context, choice Choice) error {
	if err := os.MkdirAll(b.cfg.Layout.VMRuntimeDir(b.rec.ID), 0o700); err != nil {
		return fmt.Errorf("create the VM's socket directory: %w", err)
	}
	if err := b.makeSwap(b.rec); err != nil {
		return err
	}
	id := b.rec.ID
	b.undo.Add("note that the start failed", func(ctx context.Context) error {
		_, err := b.records.update(ctx, id, func(r *Record) { r.ended("it could not be started") })
		return err
	})
	now := time.Now().UTC()
	return b.update(ctx, func(r *Record) {
		r.ended("") // in case that the last one's end could not be noted
		r.advance(StageDown, StageLaunching)
		r.StartedAt = &now
		r.Driver, r.Kernel = choice.Driver.Name(), b.assets.kernel.Name
	})
}

func (m *Manager) spec(rec Record, a assets) vmm.Spec {
	spec := vmm.Spec{
		ID:         rec.ID,
		Name:       rec.Name,
		StateDir:   m.cfg.Layout.VMDir(rec.ID),
		RuntimeDir: m.cfg.Layout.VMRuntimeDir(rec.ID),
		Console:    m.cfg.Layout.VMConsole(rec.ID),
		Kernel:     a.kernel.Vmlinux,
		Initramfs:  a.initramfs,
		VCPUs:      rec.VCPUs,
		MemoryMiB:  rec.MemoryMiB,
		Nested:     rec.Nested,
		Drives: []vmm.Drive{
			{ID: imageDrive, Path: a.image.Rootfs, ReadOnly: true},
			{ID: modulesDrive, Path: a.kernel.ModulesImage, ReadOnly: true},
			{ID: diskDrive, Path: m.cfg.Layout.VMDisk(rec.ID)},
		},
		NIC: vmm.NIC{Tap: network.TapName(rec.ID), MAC: network.MAC(rec.IP)},
	}
	if rec.SwapBytes > 0 {
		spec.Drives = append(spec.Drives, vmm.Drive{ID: swapDrive, Path: m.cfg.Layout.VMSwap(rec.ID)})
	}
	return spec
}

// makeSwap makes a file to swap to, of zeros that take no space. It is new at
// every start, so that what was swapped out once doesn't stay on the host.
func (m *Manager) makeSwap(rec Record) error {
	if rec.SwapBytes == 0 {
		return nil
	}
	f, err := os.OpenFile(m.cfg.Layout.VMSwap(rec.ID), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		err = errors.Join(f.Truncate(rec.SwapBytes), f.Close())
	}
	if err != nil {
		return fmt.Errorf("make a file to swap to: %w", err)
	}
	return nil
}

// The pause between tries to reach an agent that isn't there yet. A driver's
// dial waits by itself where it can, so tries are few.
const (
	firstHealthPause = 20 * time.Millisecond
	lastHealthPause  = 500 * time.Millisecond
)

// awaitAgent waits until the guest's agent answers for the first time.
func (b *bringUp) awaitAgent(ctx context.Context) error {
	return b.phases.run("kernel-boot", "booting the kernel", func() error {
		return b.talk(ctx, func(ctx context.Context, client *guest.Client) error {
			for pause := firstHealthPause; ; pause = min(2*pause, lastHealthPause) {
				_, err := client.Health(ctx)
				var refused *guest.RemoteError
				if err == nil || errors.As(err, &refused) || ctx.Err() != nil {
					return err
				}
				sleep(ctx, pause)
			}
		})
	})
}

// driveSerials returns, by drive ID, the serials by which the guest finds them.
func driveSerials(driver vmm.Driver, drives []vmm.Drive) (map[string]string, error) {
	serials := make(map[string]string, len(drives))
	namer, chosenByVMM := driver.(vmm.DriveNamer)
	for _, drive := range drives {
		serials[drive.ID] = drive.ID
		if chosenByVMM {
			serial, err := namer.DriveSerial(drive)
			if err != nil {
				return nil, err
			}
			serials[drive.ID] = serial
		}
	}
	return serials, nil
}

// bootGuest gives the waiting agent the VM's configuration.
func (b *bringUp) bootGuest(ctx context.Context) error {
	credentials := b.cfg.Credentials()
	for _, warning := range credentials.Warnings {
		b.phases.progress.Notice("%s", warning)
	}
	config, err := b.bootConfig(ctx, credentials)
	if err != nil {
		return err
	}
	err = b.phases.run("guest-setup", "preparing the guest", func() error {
		return b.talk(ctx, func(ctx context.Context, client *guest.Client) error {
			config.Time = time.Now()
			result, err := client.Boot(ctx, config)
			warnGuest(b.phases.progress, result.Warnings)
			return err
		})
	})
	if err != nil {
		return err
	}
	err = b.update(ctx, func(r *Record) { r.advance(StageBooting, StageBooted) })
	b.inst.watchReady()
	b.inst.followClock()
	return err
}

// warnGuest passes on what a guest wants to be known, within bounds.
func warnGuest(progress api.ProgressFunc, warnings []string) {
	const most = 10
	for _, w := range warnings[:min(len(warnings), most)] {
		progress.Notice("%s", guest.Excerpt(w))
	}
}

// copyFactor is how much longer than others a guest may take to boot that copies
// its image first.
const copyFactor = 4

// bootLimit is how long each step of a guest's boot may take.
func (m *Manager) bootLimit(rec Record) time.Duration {
	if rec.RealRoot {
		return copyFactor * m.cfg.BootTimeout
	}
	return m.cfg.BootTimeout
}

// talk makes a call to a booting guest, within the boot's deadline and the
// VMM's lifetime. A time-out gives an error that matches api.ErrTimeout.
func (b *bringUp) talk(ctx context.Context, call func(context.Context, *guest.Client) error) error {
	limit := b.bootLimit(b.rec)
	bootCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	bootCtx, release := b.inst.bound(bootCtx)
	defer release()
	err := call(bootCtx, guest.NewClient(b.inst.machine.DialGuest))
	switch {
	case err == nil:
		return nil
	case errors.Is(bootCtx.Err(), context.DeadlineExceeded) && ctx.Err() == nil && b.inst.alive():
		return api.Errorf(api.CodeTimeout, "the guest's agent did not answer within %s", limit)
	default:
		return b.inst.explain(bootCtx, fmt.Errorf("boot VM %s: %w", b.rec.Name, err))
	}
}

func (b *bringUp) bootConfig(ctx context.Context, credentials Credentials) (guest.BootConfig, error) {
	rec := b.rec
	serials, err := driveSerials(b.inst.driver, b.spec(rec, b.assets).Drives)
	if err != nil {
		return guest.BootConfig{}, err
	}
	caCerts, err := os.ReadFile(b.cfg.Layout.VMCACerts(rec.ID))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return guest.BootConfig{}, fmt.Errorf("read the CA certificates: %w", err)
	}
	entropy := make([]byte, 64)
	_, _ = rand.Read(entropy) // never fails, see crypto/rand
	return guest.BootConfig{
		Hostname:       rec.Name,
		MAC:            network.MAC(rec.IP),
		Address:        b.nic.Addr.String(),
		Gateway:        b.nic.Gateway.String(),
		MTU:            b.nic.MTU,
		DNS:            []string{b.nic.Gateway.String()},
		ImageDevice:    serials[imageDrive],
		DiskDevice:     serials[diskDrive],
		ModulesDevice:  serials[modulesDrive],
		SwapDevice:     serials[swapDrive],
		RealRoot:       rec.RealRoot,
		RealDirs:       b.assets.image.RealDirs,
		AuthorizedKeys: []string{b.cfg.UserKey.Public},
		HostKey:        rec.HostKey,
		Env:            environment(rec),
		CACerts:        string(caCerts),
		// Container images have a configuration, and no sshd.
		InstallSSH: b.assets.image.Config != nil,
		WorkDir:    workingDir(b.assets.image),
		Files:      credentials.Files,
		KeepFiles:  credentials.Unreadable,
		ReadOnly:   readOnlyPaths(rec),
		Entropy:    entropy,
	}, nil
}

func workingDir(img image.Image) string {
	if img.Config == nil {
		return ""
	}
	return img.Config.WorkingDir
}

// containerPath is where docker and podman look for the programs of images that
// say nothing of it.
const containerPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is what every session in the guest gets: the image's variables
// and, over them, those of the VM.
func environment(rec Record) map[string]string {
	env := make(map[string]string)
	if rec.ImageConfig != nil {
		env["PATH"] = containerPath
		for _, variable := range rec.ImageConfig.Env {
			name, value, _ := strings.Cut(variable, "=")
			if naming.IsVariable(name) {
				env[name] = value
			}
		}
	}
	maps.Copy(env, rec.Env)
	return env
}

// awaitGuest waits for the state that the caller asked for. A time-out gives
// an error that matches api.ErrTimeout.
func (b *bringUp) awaitGuest(wait api.Wait) step {
	return func(ctx context.Context) error {
		if wait == api.WaitAgent {
			return nil
		}
		if err := b.phases.run("ready", "waiting for the guest's init", func() error { return b.awaitReady(ctx) }); err != nil {
			return err
		}
		return b.update(ctx, func(r *Record) { r.Timing = b.phases.timing() })
	}
}

func (b *bringUp) awaitReady(ctx context.Context) error {
	bounded, release := b.inst.bound(ctx)
	defer release()
	timeout := time.NewTimer(b.bootLimit(b.rec))
	defer timeout.Stop()
	select {
	case <-b.inst.ready:
		if f, _ := b.known(b.rec); f.unbooted != "" {
			return &unbooted{f.unbooted}
		}
		return nil
	case <-timeout.C:
		return api.Errorf(api.CodeTimeout, "the guest was not ready within %s", b.bootLimit(b.rec))
	case <-b.inst.machine.Done():
		return b.inst.explain(ctx, errMachineEnded)
	case <-bounded.Done():
		return b.inst.explain(bounded, context.Cause(bounded))
	}
}
