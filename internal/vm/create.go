package vm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/hosttool"
	"banger/internal/image"
	"banger/internal/kernel"
	"banger/internal/sshkey"
	"banger/internal/undo"
)

// Create makes a VM and, unless told not to, starts it and waits for its guest.
// On an error nothing of it remains, with an exception: if only the wait for the
// guest timed out, or the guest is held for want of space, the VM is kept and the
// error names it.
func (m *Manager) Create(ctx context.Context, req api.CreateVM, progress api.ProgressFunc) (_ api.VM, err error) {
	u, ph := undo.New(), newPhases(progress)
	defer func() { err = u.Finish(err) }()

	rec, ws, err := m.plan(ctx, req) // defaults, limits, the repository: nothing exists yet
	if err != nil {
		return api.VM{}, err
	}
	parts, err := m.assets(ctx, rec.Image, progress, ph) // image, kernel, initramfs: made at first use
	if err != nil {
		return api.VM{}, err
	}
	defer parts.release()
	rec, err = m.claim(ctx, rec, parts.image, u) // record, name, address
	if err != nil {
		return api.VM{}, err
	}
	defer m.end(rec.ID)
	if err := m.makeFiles(ctx, rec, req.CACerts, ph); err != nil { // directory, disk, known_hosts
		return api.VM{}, err
	}
	var inst *instance
	if !req.NoStart {
		if rec, inst, err = m.launch(ctx, rec, parts, u, ph); err != nil { // tap, VMM, boot configuration
			return api.VM{}, m.keepWaiting(ctx, err, rec, u)
		}
		if err := m.pushWorkspace(ctx, rec, inst, ws, progress, ph); err != nil { // while the guest's init works
			return api.VM{}, givenUp(err, rec)
		}
	}
	rec, err = m.records.update(ctx, rec.ID, func(r *Record) { r.Doomed, r.Timing = r.Temporary || req.AutoDelete, ph.timing() })
	if err != nil {
		return api.VM{}, err
	}
	if !req.NoStart {
		if rec, err = m.awaitGuest(ctx, rec, inst, req.Wait, ph); err != nil {
			return api.VM{}, m.keepWaiting(ctx, err, rec, u)
		}
	}
	return describe(rec, m.facts(rec)), nil
}

// plan turns a request into a record without creating anything.
func (m *Manager) plan(ctx context.Context, req api.CreateVM) (Record, Workspace, error) {
	rec := Record{
		ID:        newID(),
		Name:      req.Name,
		Image:     or(req.Image, m.cfg.Defaults.Image),
		VCPUs:     or(req.VCPUs, m.cfg.Defaults.VCPUs),
		MemoryMiB: or(req.MemoryMiB, m.cfg.Defaults.MemoryMiB),
		DiskBytes: or(req.DiskBytes, m.cfg.Defaults.DiskBytes),
		SwapBytes: req.SwapBytes,
		Nested:    req.Nested,
		RealRoot:  req.RealRoot,
		Temporary: req.Temporary,
		Env:       req.Env,
		HostPorts: req.HostPorts,
		CreatedAt: time.Now().UTC(),
		Doomed:    true,
	}
	if rec.Name != "" {
		if err := checkName(rec.Name); err != nil {
			return rec, nil, err
		}
		// claim has the last word; this answers before an image is built.
		if _, err := m.records.find(ctx, rec.Name); err == nil {
			return rec, nil, nameTaken(rec.Name)
		}
	}
	if err := checkLimits(rec); err != nil {
		return rec, nil, err
	}
	if err := checkCACerts(req.CACerts); err != nil {
		return rec, nil, err
	}
	pair, err := sshkey.Generate("")
	if err != nil {
		return rec, nil, err
	}
	rec.HostKey, rec.HostPub = pair.Private, pair.Public
	if req.Workspace == nil {
		return rec, nil, nil
	}
	ws, err := m.cfg.Inspect(ctx, *req.Workspace)
	if err != nil {
		return rec, nil, err
	}
	info := ws.Info()
	rec.Workspace = &info
	return rec, ws, nil
}

func or[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// assets is what a VM boots from; it is shared by many VMs.
type assets struct {
	image     image.Image
	release   func() // lets image and kernel be replaced
	kernel    kernel.Kernel
	initramfs string
}

func (m *Manager) assets(ctx context.Context, imageName string, progress api.ProgressFunc, ph *phases) (a assets, err error) {
	var releaseImage, releaseKernel func()
	err = ph.measure("image", func() (err error) {
		a.image, releaseImage, err = m.cfg.Images.Use(ctx, imageName, progress)
		return err
	})
	if err != nil {
		return a, err
	}
	err = ph.measure("kernel", func() (err error) {
		a.kernel, releaseKernel, err = m.cfg.Kernels.Use(ctx, a.image.Kernel, progress)
		return err
	})
	if err != nil {
		releaseImage()
		return a, err
	}
	a.release = func() { releaseImage(); releaseKernel() }
	if a.initramfs, err = m.cfg.Initramfs(a.kernel); err != nil {
		a.release()
	}
	return a, err
}

// claim writes the record down before anything is made for it. The VM is
// reserved until the caller ends the reservation.
func (m *Manager) claim(ctx context.Context, rec Record, img image.Image, u *undo.Stack) (Record, error) {
	if need := img.SizeBytes + minDiskBytes; rec.RealRoot && rec.DiskBytes < need {
		return rec, api.Errorf(api.CodeInvalid, "a disk of %d MiB has no room for a copy of image %s", rec.DiskBytes>>20, img.Name).
			WithHint("give it at least %d MiB; it takes up only what is written", need>>20+1)
	}
	rec.Image, rec.ImageConfig = img.Name, img.Config
	_ = m.tryReserve(rec.ID, request{operation: opCreate}) // nobody knows the id yet
	claimed, err := m.records.claim(ctx, rec, m.cfg.Network.Hosts())
	if err != nil {
		m.end(rec.ID)
		return rec, err
	}
	u.Add("remove VM "+claimed.Name, func(ctx context.Context) error { return m.discard(ctx, claimed) })
	return claimed, nil
}

// makeFiles makes what a VM keeps while it is stopped.
func (m *Manager) makeFiles(ctx context.Context, rec Record, caCerts string, ph *phases) error {
	return ph.run("disk", "making the disk", func() error {
		if err := os.MkdirAll(m.cfg.Layout.VMDir(rec.ID), 0o700); err != nil {
			return fmt.Errorf("create the VM's directory: %w", err)
		}
		line := hostAlias(rec) + " " + rec.HostPub + "\n"
		if err := os.WriteFile(m.cfg.Layout.VMKnownHosts(rec.ID), []byte(line), 0o600); err != nil {
			return fmt.Errorf("write known_hosts: %w", err)
		}
		if caCerts != "" {
			if err := os.WriteFile(m.cfg.Layout.VMCACerts(rec.ID), []byte(caCerts), 0o600); err != nil {
				return fmt.Errorf("write the CA certificates: %w", err)
			}
		}
		return makeDisk(ctx, m.cfg.Layout.VMDisk(rec.ID), rec.DiskBytes, m.log)
	})
}

// makeDisk makes a sparse file with an empty ext4 filesystem. A new file reads
// as zeros, so neither mke2fs nor the guest's kernel, in the background, needs
// to write any: this takes milliseconds whatever the size.
func makeDisk(ctx context.Context, path string, size int64, log *slog.Logger) error {
	err := hosttool.Run(ctx, hosttool.Command{
		Tool: hosttool.Tool{Name: "mke2fs", Package: "e2fsprogs"},
		Args: []string{
			"-q", "-F", "-t", "ext4", "-m", "0", "-E", "assume_storage_prezeroed=1,nodiscard",
			path, strconv.FormatInt(size/1024, 10) + "k",
		},
		Log: log,
	})
	if err != nil {
		return fmt.Errorf("make the disk: %w", err)
	}
	return nil
}

func (m *Manager) pushWorkspace(ctx context.Context, rec Record, inst *instance, ws Workspace, progress api.ProgressFunc, ph *phases) error {
	if ws == nil {
		return nil
	}
	ctx, cancel := inst.bound(ctx)
	defer cancel()
	return ph.measure("workspace", func() error {
		client := guest.NewClient(inst.machine.DialGuest)
		if err := ws.Push(ctx, client.Extract, progress); err != nil {
			return inst.explain(ctx, fmt.Errorf("copy %s into VM %s: %w", ws.Info().HostPath, rec.Name, err))
		}
		return nil
	})
}

// keepWaiting drops the undo steps if err is no more than a wait that took too
// long, since the VM may be slow rather than broken, and its log tells more; or if
// the guest has booted and is held, since it goes on by itself. One that is to go
// with its caller goes.
func (m *Manager) keepWaiting(ctx context.Context, err error, rec Record, u *undo.Stack) error {
	var held *heldUp
	waits := errors.As(err, &held) && rec.Booted && !rec.Doomed
	if !waits && (rec.Temporary || !errors.Is(err, api.ErrTimeout)) {
		return givenUp(err, rec)
	}
	_ = u.Finish(nil) // drops the steps; can't fail
	if waits {
		return held.told
	}
	if _, err := m.records.update(ctx, rec.ID, func(r *Record) { r.Doomed = false }); err != nil {
		return err
	}
	return timeoutError(rec, m.bootLimit(rec))
}

func timeoutError(rec Record, after time.Duration) error {
	e := api.Errorf(api.CodeTimeout, "the guest of VM %q was not ready within %s; the VM is kept", rec.Name, after).
		WithHint("banger vm logs %s shows what it does; banger vm delete --force %s removes it", rec.Name, rec.Name)
	e.VM = rec.Name
	return e
}
