package image

import (
	"context"
	"path/filepath"
	"strings"

	"banger/internal/api"
	"banger/internal/depot"
	"banger/internal/image/ext4"
	"banger/internal/image/oci"
	"banger/internal/image/oci/flatten"
)

// looksLikeReference tells a registry's image from the name of one that is
// here: it has a registry, a path, a tag or a digest.
func looksLikeReference(name string) bool { return strings.ContainsAny(name, "/:@") }

// findReference returns the image that was pulled by that reference, however
// it is spelled.
func (s *Store) findReference(ref string) (Image, bool) {
	if !looksLikeReference(ref) {
		return Image{}, false
	}
	normal, err := oci.NormalRef(ref)
	if err != nil {
		return Image{}, false
	}
	all, err := s.depot.List()
	if err != nil {
		return Image{}, false
	}
	for _, img := range all {
		if img.Origin == api.OriginOCI && img.Source == normal {
			return img, true
		}
	}
	return Image{}, false
}

// fromRegistry pulls an image of a container registry: its layers go to the
// cache, and are then flattened into one file system.
func (s *Store) fromRegistry(ctx context.Context, req api.PullImage, pf api.ProgressFunc, makeIt makeFunc) (Image, error) {
	source, err := oci.NormalRef(req.Ref)
	if err != nil {
		return Image{}, err
	}
	name := req.Name
	if name == "" {
		name = oci.DefaultName(req.Ref)
	}
	if err := s.sameSource(name, source); err != nil {
		return Image{}, err
	}
	kernel := req.Kernel
	if kernel == "" {
		kernel = DefaultKernel
	}
	// Before the download: it is what may be misspelled.
	if err := s.getKernel(ctx, kernel, name, pf); err != nil {
		return Image{}, err
	}
	if err := s.unused(name)(ctx); err != nil {
		return Image{}, err
	}
	pulled, err := oci.Pull(ctx, req.Ref, oci.Options{
		CacheDir:  s.cfg.Layout.OCICache(),
		Platform:  req.Platform,
		Progress:  pf,
		Transport: s.cfg.Transport,
		Log:       s.log,
		Free:      s.cfg.Free,
	})
	if err != nil {
		return Image{}, wrap(err, "pull image %s", req.Ref)
	}
	defer pulled.Close() // its layers may go from the cache
	img, err := makeIt(ctx, name, pf, s.layersJob(manifest{
		Name: name, Kernel: kernel, Origin: api.OriginOCI, Source: source, Digest: pulled.Digest,
	}, pulled))
	return img, wrap(err, "make image %s of %s", name, req.Ref)
}

// layersJob makes a file system of the layers of a container image.
func (s *Store) layersJob(m manifest, from oci.Image) depot.Job {
	return depot.Job{
		Key:   "layers " + m.Source + " " + from.Digest + " " + m.Kernel,
		Phase: "image-flatten",
		Title: "making image " + m.Name,
		Build: func(ctx context.Context, dir string, report depot.Report) error {
			return writeLayers(ctx, m, from, dir, report)
		},
	}
}

func writeLayers(ctx context.Context, m manifest, from oci.Image, dir string, report depot.Report) error {
	m.Arch = platformArch(from.Platform)
	if m.Arch != arch() {
		return api.Errorf(api.CodeInvalid, "the image is for %s, this machine is linux/%s", from.Platform, arch()).
			WithHint("choose another with --platform linux/%s, if its publisher has one", arch())
	}
	m.Config = &api.ImageConfig{
		Env:        from.Config.Env,
		WorkingDir: from.Config.WorkingDir,
		User:       from.Config.User,
		Entrypoint: from.Config.Entrypoint,
		Cmd:        from.Config.Cmd,
	}
	var err error
	if m.RealDirs, err = withVolumes(from.Config.Volumes); err != nil {
		return err
	}
	fill := func(w *ext4.Writer) error {
		_, err := flatten.Layers(ctx, from.Layers, w, flatten.Options{TempDir: dir, Progress: inPercent(report)})
		return err
	}
	if err := ext4.Create(ctx, filepath.Join(dir, rootfsFile), fill, ext4.Options{Label: rootLabel}); err != nil {
		return err
	}
	return m.write(dir)
}

// rootLabel is the volume name of every root file system that is made here.
const rootLabel = "banger-root"

// platformArch is the machine of a platform such as "linux/arm64/v8".
func platformArch(platform string) string {
	parts := strings.Split(platform, "/")
	if len(parts) < 2 {
		return ""
	}
	return parts[1]
}

// inPercent makes one row of percents of flatten's two phases, of which the
// second overlaps little with the first.
func inPercent(report depot.Report) api.ProgressFunc {
	return func(p api.Progress) {
		if p.Total <= 0 {
			return
		}
		half := int(min(p.Done, p.Total) * 49 / p.Total)
		if p.Phase != "image-unpack" {
			half += 49
		}
		report(p.Title, half)
	}
}
