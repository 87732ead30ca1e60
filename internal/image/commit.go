package image

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"banger/internal/api"
	"banger/internal/depot"
	"banger/internal/guard"
	"banger/internal/image/ext4"
	"banger/internal/naming"
)

// Commit makes an image of a VM's root file system as it is now. The name must
// be free.
func (s *Store) Commit(ctx context.Context, req api.CommitImage, pf api.ProgressFunc) (api.Image, error) {
	if err := s.free(req.Name); err != nil {
		return api.Image{}, err
	}
	base, err := s.guests.ImageOf(ctx, req.VM)
	if err != nil {
		return api.Image{}, err
	}
	from, release, err := s.hold(base)
	if err != nil {
		return api.Image{}, err
	}
	defer release()
	m := manifest{
		Name: req.Name, Distro: from.Distro, Arch: from.Arch, Kernel: from.Kernel, Origin: api.OriginCommit,
		Source: "VM " + req.VM, RealDirs: from.RealDirs, Config: from.Config,
	}
	img, err := s.depot.Ensure(ctx, req.Name, pf, depot.Job{
		Key:   "commit " + req.VM,
		Phase: "image-commit",
		Title: "making image " + req.Name,
		Build: func(ctx context.Context, dir string, report depot.Report) error {
			report("copying the VM's files", 1)
			archive := func(w io.Writer) error { return s.guests.Archive(ctx, req.VM, w, pf) }
			if err := writeArchive(ctx, archive, filepath.Join(dir, rootfsFile)); err != nil {
				return err
			}
			return m.write(dir)
		},
	})
	if err != nil {
		return api.Image{}, fmt.Errorf("make an image of VM %s: %w", req.VM, err)
	}
	return s.describe(ctx, img)
}

// writeArchive makes a file system of the tar that archive writes.
func writeArchive(ctx context.Context, archive func(io.Writer) error, rootfs string) error {
	r, w := io.Pipe()
	done := guard.Start("read a guest's archive", func() error {
		err := guard.Run("read a guest's archive", func() error { return archive(w) })
		w.CloseWithError(err)
		return err
	})
	err := ext4.Write(ctx, r, rootfs, ext4.Options{Label: rootLabel})
	if err == nil {
		err = skipPadding(r)
	}
	_ = r.CloseWithError(context.Canceled) // ends archive if the writer gave up
	if archiveErr := <-done; err == nil {
		err = archiveErr
	}
	return err
}

// maxPadding is how much may follow the end mark of a tar, in bytes. Tars end
// with a record of 10 KiB at most.
const maxPadding = 64 << 10

// skipPadding reads what follows a tar's end mark.
func skipPadding(r io.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxPadding+1))
	if err == nil && n > maxPadding {
		return api.Errorf(api.CodeGuest, "the VM goes on sending behind the end of its files")
	}
	return err
}

// free wants a name that no image has.
func (s *Store) free(name string) error {
	if err := naming.CheckStored("an image", name); err != nil {
		return err
	}
	if _, err := s.depot.Get(name); err == nil {
		return api.Errorf(api.CodeExists, "there is already an image named %q", name).
			WithHint("banger image delete %s makes room", name)
	}
	return nil
}
