package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"banger/internal/api"
	"banger/internal/bundle"
)

// exportPrefix starts the names of an export's temporary directories.
const exportPrefix = "export-"

// Export writes an image's bundle.
func (s *Store) Export(ctx context.Context, name string, req api.ExportImage, pf api.ProgressFunc) (api.Exported, error) {
	if !filepath.IsAbs(req.Path) {
		return api.Exported{}, api.Errorf(api.CodeInvalid, "%q is not an absolute path", req.Path)
	}
	found, err := s.find(ctx, name)
	if err != nil {
		return api.Exported{}, err
	}
	img, release, err := s.hold(found.Name)
	if err != nil {
		return api.Exported{}, err
	}
	defer release()
	work, err := os.MkdirTemp(s.cfg.Layout.Cache, exportPrefix)
	if err != nil {
		return api.Exported{}, fmt.Errorf("export image %s: %w", name, err)
	}
	defer os.RemoveAll(work)
	if err := img.published().writeFor(work, img.Rootfs); err != nil {
		return api.Exported{}, err
	}
	files := []bundle.File{
		{Name: manifestFile, Path: filepath.Join(work, manifestFile)},
		{Name: rootfsFile, Path: img.Rootfs},
	}
	if packages := filepath.Join(img.Dir, packagesFile); exists(packages) {
		files = append(files, bundle.File{Name: packagesFile, Path: packages})
	}
	written, err := bundle.Create(ctx, req.Path, files, pf)
	return written, wrap(err, "export image %s", name)
}

// published is the manifest without what concerns this host only.
func (i Image) published() manifest {
	return manifest{
		Name: i.Name, Distro: i.Distro, Arch: i.Arch, Kernel: i.Kernel,
		RealDirs: i.RealDirs, Config: i.Config,
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
