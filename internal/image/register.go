package image

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"banger/internal/api"
	"banger/internal/depot"
)

// Register makes an image of a root file system that stays where it is and is
// never written.
func (s *Store) Register(ctx context.Context, req api.RegisterImage) (api.Image, error) {
	if err := s.free(req.Name); err != nil {
		return api.Image{}, err
	}
	if !filepath.IsAbs(req.Rootfs) {
		return api.Image{}, api.Errorf(api.CodeInvalid, "%q is not an absolute path", req.Rootfs)
	}
	if err := checkFileSystem(req.Rootfs); err != nil {
		return api.Image{}, api.Errorf(api.CodeInvalid, "%s can't be an image: %v", req.Rootfs, err).
			WithHint("it must be a clean ext4 file system in a file, without partitions; e2fsck -f mends one")
	}
	kernel := cmp.Or(req.Kernel, DefaultKernel)
	if err := s.getKernel(ctx, kernel, req.Name, nil); err != nil {
		return api.Image{}, err
	}
	m := manifest{
		Name: req.Name, Arch: arch(), Kernel: kernel, Origin: api.OriginRegistered,
		Source: req.Rootfs, Rootfs: req.Rootfs, RealDirs: defaultRealDirs(),
	}
	img, err := s.depot.Ensure(ctx, req.Name, nil, depot.Job{
		Key:   "register " + req.Rootfs,
		Phase: "image-register",
		Title: "registering image " + req.Name,
		Build: func(_ context.Context, dir string, _ depot.Report) error { return m.write(dir) },
	})
	if err != nil {
		return api.Image{}, fmt.Errorf("register image %s: %w", req.Name, err)
	}
	return s.describe(ctx, img)
}

// checkRegistered fails if a user's file is no longer what it was.
func checkRegistered(img Image) error {
	if img.Origin != api.OriginRegistered {
		return nil
	}
	info, err := os.Stat(img.Rootfs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.CodeNotFound, "the file of image %s, %s, is gone", img.Name, img.Rootfs).
			WithHint("put it back, or delete what uses it")
	case err != nil:
		return fmt.Errorf("look at the file of image %s: %w", img.Name, err)
	case info.Size() != img.SizeBytes:
		return api.Errorf(api.CodeConflict, "the file of image %s, %s, is not the one that was registered", img.Name, img.Rootfs).
			WithHint("put the old one back; a new one needs a name of its own: banger image register")
	}
	return nil
}

// The parts of ext4's superblock that tell whether it can be mounted without
// being written, https://docs.kernel.org/filesystems/ext4/super.html.
const (
	superblockAt    = 1024
	magicAt         = 0x38
	magic           = 0xef53
	stateAt         = 0x3a
	stateErrors     = 0x2
	incompatAt      = 0x60
	incompatRecover = 0x4 // the journal must be replayed first
)

// checkFileSystem wants an ext4 file system that can be mounted read-only.
func checkFileSystem(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return errors.Unwrap(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.New("it is not a file")
	}
	var super [1024]byte
	if _, err := f.ReadAt(super[:], superblockAt); err != nil {
		return errors.New("it is too short for a file system")
	}
	word := func(at int) uint16 { return binary.LittleEndian.Uint16(super[at:]) }
	switch {
	case word(magicAt) != magic:
		return errors.New("it holds no ext4 file system")
	case word(stateAt)&stateErrors != 0:
		return errors.New("its file system has errors")
	case binary.LittleEndian.Uint32(super[incompatAt:])&incompatRecover != 0:
		return errors.New("its file system was not unmounted cleanly")
	}
	return nil
}
