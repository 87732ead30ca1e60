package image

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"banger/internal/api"
	"banger/internal/image/oci"
	"banger/internal/naming"
	"banger/internal/room"
)

// archivePrefix starts the names of temporary directories in which archives are
// unpacked.
const archivePrefix = "archive-"

// fromArchive makes an image of an archive that docker save or podman save
// wrote, or of a directory with an OCI layout.
func (s *Store) fromArchive(ctx context.Context, req api.PullImage, pf api.ProgressFunc) (Image, error) {
	if req.SHA256 != "" {
		return Image{}, api.Errorf(api.CodeInvalid, "a sha256 can only be asked of a bundle").
			WithHint("sha256sum --check tells whether %s is the one", filepath.Base(req.Ref))
	}
	work, err := os.MkdirTemp(s.cfg.Layout.Cache, archivePrefix)
	if err != nil {
		return Image{}, fmt.Errorf("read %s: %w", req.Ref, err)
	}
	defer os.RemoveAll(work)
	step := api.Progress{Phase: "image-load", Title: "reading " + filepath.Base(req.Ref)}
	pf.Report(step)
	limit := room.Limit{Dir: work, Free: s.cfg.Free, Hint: "make room there and try again; nothing was left behind"}
	watched, stop := limit.Watch(ctx)
	from, err := oci.Load(watched, req.Ref, oci.LoadOptions{Dir: work, Platform: req.Platform})
	if err != nil && watched.Err() != nil {
		err = context.Cause(watched)
	}
	stop()
	if err != nil {
		return Image{}, err
	}
	step.Finished = true
	pf.Report(step)

	name := cmp.Or(req.Name, oci.DefaultName(from.Ref), archiveName(req.Ref))
	if err := naming.CheckStored("an image", name); err != nil {
		return Image{}, err
	}
	if err := s.sameSource(name, req.Ref); err != nil {
		return Image{}, err
	}
	m := manifest{
		Name: name, Kernel: cmp.Or(req.Kernel, DefaultKernel),
		Origin: api.OriginArchive, Source: req.Ref, Digest: from.Digest,
	}
	if err := s.getKernel(ctx, m.Kernel, name, pf); err != nil {
		return Image{}, err
	}
	img, err := s.replace(ctx, name, pf, s.layersJob(m, from))
	return img, wrap(err, "make image %s of %s", name, req.Ref)
}

// archiveName is what an image is called whose archive doesn't say.
func archiveName(path string) string {
	name := filepath.Base(path)
	for _, suffix := range []string{".gz", ".tgz", ".zst", ".tar"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}
