package vm

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"banger/internal/api"
	"banger/internal/hosttool"
	"banger/internal/sshkey"
)

// Create makes a VM and, unless told not to, starts it and waits for its guest.
// On an error nothing of it remains, with an exception: if only the wait for the
// guest timed out, or the guest is held for want of space, the VM is kept and the
// error names it.
func (m *Manager) Create(ctx context.Context, req api.CreateVM, progress api.ProgressFunc) (_ api.VM, err error) {
	b := m.newBringUp(ctx, progress)
	defer func() { err = b.finish(err) }()
	steps := []step{
		b.plan(req),              // defaults, limits, what is to be copied: nothing exists yet
		b.getAssets,              // image, kernel, initramfs: made at first use
		b.claim,                  // record, name, address
		b.makeFiles(req.CACerts), // directory, disk, known_hosts
	}
	if !req.NoStart {
		steps = append(steps,
			b.launch, // tap, VMM, boot configuration
			b.push,   // while the guest's init works
		)
	}
	steps = append(steps, b.commit(req.AutoDelete))
	if !req.NoStart {
		steps = append(steps, b.awaitGuest(req.Wait))
	}
	return b.run(steps...)
}

// plan turns a request into a record without creating anything.
func (b *bringUp) plan(req api.CreateVM) step {
	return func(ctx context.Context) (err error) {
		if b.rec, err = b.planned(ctx, req); err != nil {
			return err
		}
		if b.cargo, err = b.inspect(ctx, req); err != nil {
			return err
		}
		if b.cargo.workspace != nil {
			info := b.cargo.workspace.Info()
			b.rec.Workspace = &info
		}
		return nil
	}
}

func (m *Manager) planned(ctx context.Context, req api.CreateVM) (Record, error) {
	rec := Record{
		ID:        newID(),
		Name:      req.Name,
		Image:     or(req.Image, m.cfg.Defaults.Image),
		shape:     shape(m.cfg.Defaults.shaped(req.Shape)),
		RealRoot:  req.RealRoot,
		Temporary: req.Temporary,
		Env:       req.Env,
		HostPorts: req.HostPorts,
		CreatedAt: time.Now().UTC(),
		Doomed:    true,
		Stage:     StageDown,
	}
	if rec.Name != "" {
		if err := checkName(rec.Name); err != nil {
			return rec, err
		}
		// claim has the last word; this answers before an image is built.
		if _, err := m.records.find(ctx, rec.Name); err == nil {
			return rec, nameTaken(rec.Name)
		}
	}
	if err := checkLimits(rec); err != nil {
		return rec, err
	}
	if err := checkCACerts(req.CACerts); err != nil {
		return rec, err
	}
	pair, err := sshkey.Generate("")
	if err != nil {
		return rec, err
	}
	rec.HostKey, rec.HostPub = pair.Private, pair.Public
	return rec, nil
}

func or[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// claim writes the record down before anything is made for it, and reserves the VM.
func (b *bringUp) claim(ctx context.Context) error {
	img := b.assets.image
	if need := img.SizeBytes + minDiskBytes; b.rec.RealRoot && b.rec.DiskBytes < need {
		return api.Errorf(api.CodeInvalid, "a disk of %d MiB has no room for a copy of image %s", b.rec.DiskBytes>>20, img.Name).
			WithHint("give it at least %d MiB; it takes up only what is written", need>>20+1)
	}
	b.rec.Image, b.rec.ImageConfig = img.Name, img.Config
	_ = b.tryReserve(b.rec.ID, request{operation: opCreate, yield: b.cancel}) // nobody knows the id yet
	id := b.rec.ID
	b.unreserve = func() { b.end(id) }
	claimed, err := b.records.claim(ctx, b.rec, b.cfg.Network.Hosts())
	if err != nil {
		return err
	}
	b.rec = claimed
	b.undo.Add("remove VM "+claimed.Name, func(ctx context.Context) error { return b.discard(ctx, claimed) })
	return nil
}

// makeFiles makes what a VM keeps while it is stopped.
func (b *bringUp) makeFiles(caCerts string) step {
	return func(ctx context.Context) error {
		return b.phases.run("disk", "making the disk", func() error { return b.writeFiles(ctx, b.rec, caCerts) })
	}
}

func (m *Manager) writeFiles(ctx context.Context, rec Record, caCerts string) error {
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

// commit makes the VM one that stays, unless it is to go with its caller.
func (b *bringUp) commit(autoDelete bool) step {
	return func(ctx context.Context) error {
		return b.update(ctx, func(r *Record) {
			r.Doomed, r.Timing, r.Copies = r.Temporary || autoDelete, b.phases.timing(), b.cargo.infos()
		})
	}
}
