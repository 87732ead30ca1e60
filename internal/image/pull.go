package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"banger/internal/api"
	"banger/internal/bundle"
	"banger/internal/catalog"
	"banger/internal/depot"
	"banger/internal/image/oci"
	"banger/internal/image/recipe"
	"banger/internal/naming"
)

// Pull gets an image of the catalog, of a registry, of an archive or of a bundle,
// and the kernel that it names. One that is there is fetched anew and replaced, if no
// VM uses it and it came from the same place.
func (s *Store) Pull(ctx context.Context, req api.PullImage, pf api.ProgressFunc) (api.Image, error) {
	if req.Name != "" {
		if err := naming.CheckStored("an image", req.Name); err != nil {
			return api.Image{}, err
		}
	}
	img, err := s.pull(ctx, req, pf)
	if err != nil {
		return api.Image{}, err
	}
	return s.describe(ctx, img)
}

// getKernel gets an image's kernel. It comes before the image, which would be
// of no use without.
func (s *Store) getKernel(ctx context.Context, kernel, image string, pf api.ProgressFunc) error {
	err := s.cfg.Kernel(ctx, kernel, pf)
	var failed *api.Error
	if errors.As(err, &failed) && failed.Hint == "" {
		return fmt.Errorf("get the kernel of image %s: %w", image, failed.WithHint(
			"banger kernel list shows those on this host; --kernel-ref boots the image with one of them"))
	}
	return wrap(err, "get the kernel of image %s", image)
}

func (s *Store) pull(ctx context.Context, req api.PullImage, pf api.ProgressFunc) (Image, error) {
	offer := s.cfg.Catalog(ctx)
	switch entry, known := offer.Image(req.Ref); {
	case filepath.IsAbs(req.Ref) && oci.IsArchive(req.Ref):
		return s.fromArchive(ctx, req, pf)
	case bundle.IsSource(req.Ref):
		return s.fromBundle(ctx, req, pf)
	case req.SHA256 != "":
		return Image{}, api.Errorf(api.CodeInvalid, "a sha256 can only be asked of a bundle").
			WithHint("the digest of a registry's image is part of its name: %s@sha256:…", req.Ref)
	case known:
		return s.pullCatalog(ctx, entry, req, pf)
	case looksLikeReference(req.Ref):
		return s.fromRegistry(ctx, req, pf, s.replace)
	default:
		return Image{}, errUnknown(req.Ref, offer)
	}
}

func (s *Store) pullCatalog(ctx context.Context, entry catalog.Image, req api.PullImage, pf api.ProgressFunc) (Image, error) {
	if req.Platform != "" && req.Platform != "linux/"+arch() {
		return Image{}, api.Errorf(api.CodeInvalid, "image %s is for this machine only (linux/%s)", entry.Name, arch())
	}
	if req.Kernel != "" {
		entry.Kernel = req.Kernel
	}
	name := req.Name
	if name == "" {
		name = entry.Name
	}
	if err := s.sameSource(name, catalogSource(entry)); err != nil {
		return Image{}, err
	}
	if err := s.getKernel(ctx, entry.Kernel, name, pf); err != nil {
		return Image{}, err
	}
	return s.fromCatalog(ctx, entry, name, pf, s.replace)
}

func catalogSource(entry catalog.Image) string { return "catalog " + entry.Name }

// sameSource refuses to replace an image by one from elsewhere: what a user
// has made must not be lost by a name's accident.
func (s *Store) sameSource(name, source string) error {
	old, err := s.depot.Get(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && old.Source != "" && old.Source != source {
		return api.Errorf(api.CodeExists, "there is an image %s from elsewhere (%s)", name, old.Source).
			WithHint("choose another name with --name, or delete it first: banger image delete %s", name)
	}
	return err
}

// fromCatalog fetches the bundle of this machine or, if there is none or it
// can't be had, builds the image of its recipe.
func (s *Store) fromCatalog(ctx context.Context, entry catalog.Image, name string, pf api.ProgressFunc, makeIt makeFunc) (Image, error) {
	m := manifest{
		Name: name, Distro: entry.Distro, Arch: arch(), Kernel: entry.Kernel,
		Source: catalogSource(entry),
	}
	published, hasBundle := entry.BundleFor(arch())
	hasRecipe := entry.Recipe != nil && slices.Contains(entry.Arch, arch())
	job := depot.Job{Key: m.Source + " " + m.Kernel, Phase: "image-build", Title: "building image " + name}
	switch {
	case hasBundle:
		job.Phase, job.Title = "image-pull", "pulling image "+name
	case !hasRecipe:
		return Image{}, api.Errorf(api.CodeNotFound, "image %s can't be had for %s machines", name, arch())
	}
	job.Build = func(ctx context.Context, dir string, report depot.Report) error {
		if hasBundle {
			err := s.unpack(ctx, dir, m, published.URL, published.SHA256, report)
			// Not after a bundle that isn't what the catalog says: something is
			// wrong then, which nobody should work around.
			unreachable := errors.Is(err, api.ErrHost) || errors.Is(err, api.ErrNotFound)
			if !hasRecipe || !unreachable || ctx.Err() != nil {
				return err
			}
			s.log.Warn("the image's bundle can't be had; it is built instead", "image", name, "err", err)
			if err := depot.Empty(dir); err != nil {
				return err
			}
		}
		return s.buildPackages(ctx, dir, m, *entry.Recipe, report)
	}
	img, err := makeIt(ctx, name, pf, job)
	return img, wrap(err, "get image %s", name)
}

// wrap is fmt.Errorf for errors that may be nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// buildPackages builds the image m of a recipe in the empty directory dir.
func (s *Store) buildPackages(ctx context.Context, dir string, m manifest, r catalog.ImageRecipe, report depot.Report) error {
	m.Origin, m.RealDirs = api.OriginRecipe, r.RealDirs
	if err := recipe.Build(ctx, r, m.Arch, dir, report, s.log); err != nil {
		return err
	}
	return m.write(dir)
}

// fromBundle unpacks a bundle that the user names.
func (s *Store) fromBundle(ctx context.Context, req api.PullImage, pf api.ProgressFunc) (Image, error) {
	if req.Platform != "" {
		return Image{}, api.Errorf(api.CodeInvalid, "a bundle is for one platform; there is none to choose")
	}
	source := bundle.Redact(req.Ref)
	theirs, err := s.peek(ctx, req.Ref)
	if err != nil {
		return Image{}, err
	}
	name := cmp.Or(req.Name, theirs.Name, bundle.NameOf(req.Ref))
	if err := naming.CheckStored("an image", name); err != nil {
		return Image{}, err
	}
	m := manifest{Name: name, Kernel: cmp.Or(req.Kernel, theirs.Kernel), Source: source}
	if err := s.sameSource(name, source); err != nil {
		return Image{}, err
	}
	if err := s.getKernel(ctx, m.Kernel, name, pf); err != nil {
		return Image{}, err
	}
	img, err := s.replace(ctx, name, pf, depot.Job{
		Key:   "bundle " + source + " " + req.SHA256 + " " + req.Kernel,
		Phase: "image-pull",
		Title: bundle.Doing(req.Ref) + " image " + name,
		Build: func(ctx context.Context, dir string, report depot.Report) error {
			return s.unpack(ctx, dir, m, req.Ref, req.SHA256, report)
		},
	})
	return img, wrap(err, "unpack image %s", name)
}

// peek reads a bundle's manifest before anything is made of it.
func (s *Store) peek(ctx context.Context, source string) (manifest, error) {
	data, err := bundle.Manifest(ctx, source, bundle.Options{Client: s.cfg.Client, Log: s.log})
	if err != nil {
		return manifest{}, err
	}
	m, err := decodeManifest(data)
	if err != nil {
		return manifest{}, unusable(source, err)
	}
	return m, nil
}

// decodeManifest reads the manifest of a bundle.
func decodeManifest(data []byte) (manifest, error) {
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return manifest{}, err
	}
	return m, m.check(arch())
}

// unusable is the error about a bundle that says what can't be.
func unusable(source string, why error) error {
	return api.Errorf(api.CodeInvalid, "the bundle %s can't be used: %v", bundle.Redact(source), why).
		WithHint("ask its publisher, or make one with: banger image export")
}

// unpack makes the image m of a bundle in the empty directory dir. What m is
// silent about is taken from the bundle's own manifest.
func (s *Store) unpack(ctx context.Context, dir string, m manifest, source, sha256 string, report depot.Report) error {
	sum, err := bundle.Unpack(ctx, source, dir, bundle.Options{
		SHA256:   sha256,
		CacheDir: s.cfg.Layout.DownloadsDir(),
		MaxBytes: maxBundle,
		Allowed:  func(name string) bool { return name == manifestFile || name == rootfsFile || name == packagesFile },
		Report:   report,
		Client:   s.cfg.Client,
		Log:      s.log,
	})
	if err != nil {
		return err
	}
	return adopt(dir, m, source, sum)
}

// maxBundle bounds what a bundle may unpack to, holes included.
const maxBundle = 1 << 40

// adopt makes a bundle's manifest that of the image m.
func adopt(dir string, m manifest, source, sum string) error {
	theirs, err := readManifest(dir)
	if err == nil {
		err = theirs.check(arch())
	}
	if err == nil {
		err = checkFileSystem(filepath.Join(dir, rootfsFile))
	}
	if err != nil {
		return unusable(source, err)
	}
	theirs.Name, theirs.Origin, theirs.Source, theirs.Digest, theirs.Rootfs = m.Name, api.OriginBundle, m.Source, "sha256:"+sum, ""
	if m.Kernel != "" {
		theirs.Kernel = m.Kernel
	}
	return theirs.write(dir)
}
