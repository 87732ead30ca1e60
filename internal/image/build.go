package image

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/depot"
	"banger/internal/image/oci"
	"banger/internal/naming"
)

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
