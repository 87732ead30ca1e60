package image

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/depot"
	"banger/internal/guard"
	"banger/internal/image/ext4"
	"banger/internal/image/oci"
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

// Build makes an image of a recipe or a Dockerfile. An image of that name that
// was made of the same file is replaced, if no VM uses it.
func (s *Store) Build(ctx context.Context, req api.BuildImage, pf api.ProgressFunc) (api.Image, error) {
	if !filepath.IsAbs(req.File) {
		return api.Image{}, api.Errorf(api.CodeInvalid, "%q is not an absolute path", req.File)
	}
	if info, err := os.Stat(req.File); err != nil || !info.Mode().IsRegular() {
		return api.Image{}, api.Errorf(api.CodeInvalid, "%s is not a file that can be read", req.File)
	}
	if req.Name == "" {
		req.Name = buildName(req.File)
	}
	if err := naming.CheckStored("an image", req.Name); err != nil {
		return api.Image{}, err
	}
	if err := s.sameSource(req.Name, "file "+req.File); err != nil {
		return api.Image{}, err
	}
	build := s.buildDockerfile
	if filepath.Ext(req.File) == ".toml" {
		build = s.buildRecipe
	}
	img, err := build(ctx, req, pf)
	if err != nil {
		return api.Image{}, fmt.Errorf("build image %s: %w", req.Name, err)
	}
	return s.describe(ctx, img)
}

// buildName is what an image is called after its recipe's file, or after the
// directory of its Dockerfile.
func buildName(file string) string {
	base := filepath.Base(file)
	if name, ok := strings.CutSuffix(base, ".toml"); ok {
		return name
	}
	return strings.ToLower(filepath.Base(filepath.Dir(file)))
}

func (s *Store) buildRecipe(ctx context.Context, req api.BuildImage, pf api.ProgressFunc) (Image, error) {
	if req.Context != "" || req.Target != "" || len(req.Args) > 0 {
		return Image{}, api.Errorf(api.CodeInvalid, "a recipe has no context, target or build arguments: these are a Dockerfile's")
	}
	r, err := catalog.ParseRecipe(req.File)
	if err != nil {
		return Image{}, err
	}
	m := manifest{Name: req.Name, Distro: r.Distro, Arch: arch(), Kernel: cmp.Or(req.Kernel, r.Kernel, DefaultKernel), Source: "file " + req.File}
	if err := s.cfg.Kernel(ctx, m.Kernel, pf); err != nil {
		return Image{}, err
	}
	return s.replace(ctx, req.Name, pf, depot.Job{
		Key:   m.Source + " " + m.Kernel,
		Phase: "image-build",
		Title: "building image " + req.Name,
		Build: func(ctx context.Context, dir string, report depot.Report) error {
			return s.buildPackages(ctx, dir, m, r, report)
		},
	})
}

func (s *Store) buildDockerfile(ctx context.Context, req api.BuildImage, pf api.ProgressFunc) (Image, error) {
	if req.Context == "" {
		req.Context = filepath.Dir(req.File)
	}
	if info, err := os.Stat(req.Context); err != nil || !info.IsDir() {
		return Image{}, api.Errorf(api.CodeInvalid, "the build's context %s is not a directory", req.Context)
	}
	m := manifest{Name: req.Name, Kernel: cmp.Or(req.Kernel, DefaultKernel), Origin: api.OriginDockerfile, Source: "file " + req.File}
	if err := s.cfg.Kernel(ctx, m.Kernel, pf); err != nil {
		return Image{}, err
	}
	return s.replace(ctx, req.Name, pf, depot.Job{
		Key:   fmt.Sprintf("dockerfile %q", []any{req.File, req.Context, req.Target, req.Args, m.Kernel}),
		Phase: "image-build",
		Title: "building image " + req.Name,
		Build: func(ctx context.Context, dir string, report depot.Report) error {
			work := filepath.Join(dir, "work")
			if err := os.Mkdir(work, 0o700); err != nil {
				return err
			}
			report("running docker build in a VM", 1)
			from, err := s.dockerArchive(ctx, req, work, pf)
			if err != nil {
				return err
			}
			defer from.Close()
			if err := writeLayers(ctx, m, from, dir, report); err != nil {
				return err
			}
			return os.RemoveAll(work)
		},
	})
}

// dockerArchive lets Docker build the image and returns it, with its layers in
// the directory work.
func (s *Store) dockerArchive(ctx context.Context, req api.BuildImage, work string, pf api.ProgressFunc) (oci.Image, error) {
	f, err := os.Create(filepath.Join(work, "image.tar"))
	if err != nil {
		return oci.Image{}, err
	}
	defer f.Close()
	if err := s.guests.BuildDockerfile(ctx, req, f, pf); err != nil {
		return oci.Image{}, err
	}
	return oci.Load(ctx, f.Name(), oci.LoadOptions{Dir: work})
}
