package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"banger/internal/api"
	"banger/internal/guest"
)

// Users returns the names of the VMs of an image.
func (m *Manager) Users(ctx context.Context, image string) ([]string, error) {
	return m.namesOf(ctx, func(rec Record) bool { return rec.Image == image })
}

// KernelUsers returns the names of the VMs that a kernel booted last.
func (m *Manager) KernelUsers(ctx context.Context, kernel string) ([]string, error) {
	return m.namesOf(ctx, func(rec Record) bool { return rec.Kernel == kernel })
}

func (m *Manager) namesOf(ctx context.Context, match func(Record) bool) ([]string, error) {
	recs, err := m.records.list(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, rec := range recs {
		if match(rec) {
			names = append(names, rec.Name)
		}
	}
	return names, nil
}

// ImageOf returns the name of a VM's image.
func (m *Manager) ImageOf(ctx context.Context, ref string) (string, error) {
	rec, err := m.records.find(ctx, ref)
	return rec.Image, err
}

// limitArchive returns a writer that takes from a VM's guest what its image and
// its disk can hold, and an eighth more for the headers of a tar.
func (m *Manager) limitArchive(ctx context.Context, rec Record, w io.Writer, progress api.ProgressFunc) (io.Writer, error) {
	img, release, err := m.cfg.Images.Use(ctx, rec.Image, progress)
	if err != nil {
		return nil, err
	}
	defer release()
	info, err := os.Stat(img.Rootfs)
	if err != nil {
		return nil, fmt.Errorf("look at the image of VM %s: %w", rec.Name, err)
	}
	limit := info.Size() + rec.DiskBytes
	return &guest.LimitWriter{
		W: w, Left: limit + limit/8, Holes: true,
		Over: api.Errorf(api.CodeGuest, "VM %s sends more files than its image and its disk can hold", rec.Name),
	}, nil
}

// Archive writes the root filesystem of a VM as a tar, without what makes it
// this VM: identity, keys and credentials. A stopped VM is started for it and
// stopped again.
func (m *Manager) Archive(ctx context.Context, ref string, w io.Writer, progress api.ProgressFunc) (err error) {
	rec, err := m.records.find(ctx, ref)
	if err != nil {
		return err
	}
	if state := observe(rec, m.facts(rec)); state == api.StateStopped || state == api.StateCreated {
		_, startErr := m.Start(ctx, rec.ID, api.StartVM{}, progress)
		if startErr == nil || api.AsError(startErr).VM != "" { // it runs now
			defer func() {
				_, stopErr := m.Stop(context.WithoutCancel(ctx), rec.ID, api.StopVM{Force: startErr != nil}, progress)
				if stopErr != nil {
					err = errors.Join(err, fmt.Errorf("stop VM %s again: %w", rec.Name, stopErr))
				}
			}()
		}
		if startErr != nil {
			return startErr
		}
	}
	inst, err := m.instance(rec)
	if err != nil {
		return err
	}
	if w, err = m.limitArchive(ctx, rec, w, progress); err != nil {
		return err
	}
	ctx, cancel := inst.bound(ctx)
	defer cancel()
	if err := guest.NewClient(inst.machine.DialGuest).Archive(ctx, w); err != nil {
		return inst.explain(ctx, fmt.Errorf("read the files of VM %s: %w", rec.Name, err))
	}
	return nil
}
