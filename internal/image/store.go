package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/depot"
	"banger/internal/paths"
)

// DefaultKernel boots images whose source names no kernel.
const DefaultKernel = "generic-6.12"

// Config is what a Store is made of.
type Config struct {
	Layout paths.Layout
	// Catalog returns what is offered at the moment.
	Catalog func(ctx context.Context) catalog.Catalog
	// Default is the name of the image that VMs get if nobody says otherwise.
	Default string
	// Kernel makes sure that a kernel is on this host.
	Kernel func(ctx context.Context, name string, pf api.ProgressFunc) error
	// Transport and Client reach registries and bundles; nil means defaults.
	Transport http.RoundTripper
	Client    *http.Client
	Log       *slog.Logger
	Free      func(dir string) (int64, error) // for tests; nil: room.Free
}

// Guests are the VMs that images are made of, made in, and used by.
type Guests interface {
	// Users returns the names of the VMs of an image.
	Users(ctx context.Context, image string) ([]string, error)
	// ImageOf returns the name of a VM's image.
	ImageOf(ctx context.Context, vm string) (string, error)
	// Archive writes the root file system of a VM as a tar.
	Archive(ctx context.Context, vm string, w io.Writer, pf api.ProgressFunc) error
	// BuildDockerfile has Docker build an image in a VM of its own and writes
	// it as docker save does.
	BuildDockerfile(ctx context.Context, req api.BuildImage, w io.Writer, pf api.ProgressFunc) error
}

// Store keeps the images of one user.
type Store struct {
	cfg    Config
	guests Guests
	depot  *depot.Depot[Image]
	log    *slog.Logger
}

// New returns the store of a layout. SetGuests completes it.
func New(cfg Config) *Store {
	return &Store{cfg: cfg, depot: depot.New(cfg.Layout.ImagesDir(), load, cfg.Log), log: cfg.Log}
}

// SetGuests must be called before any other method: images and VMs need each
// other.
func (s *Store) SetGuests(g Guests) { s.guests = g }

// Clean removes what the work of a killed bangerd left. Call it at start-up,
// before any other work.
func (s *Store) Clean(ctx context.Context) error {
	errs := []error{s.depot.Clean(ctx)}
	for _, prefix := range []string{exportPrefix, archivePrefix} {
		left, err := filepath.Glob(filepath.Join(s.cfg.Layout.Cache, prefix+"*"))
		errs = append(errs, err)
		for _, dir := range left {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// Use returns the image of that name, which can't be deleted or replaced until
// release is called. One of the catalog, or of a registry, that isn't there is
// fetched or built first, which takes the network and up to some minutes; calls
// that overlap share the work. pf may be nil. The image's kernel is another
// matter.
func (s *Store) Use(ctx context.Context, name string, pf api.ProgressFunc) (img Image, release func(), err error) {
	img, release, err = s.hold(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return img, release, err
	}
	img, err = s.obtain(ctx, name, pf)
	if err != nil {
		return Image{}, nil, err
	}
	return s.hold(img.Name)
}

func (s *Store) hold(name string) (Image, func(), error) {
	img, release, err := s.depot.Hold(name)
	if err != nil {
		return Image{}, nil, err
	}
	if err := checkRegistered(img); err != nil {
		release()
		return Image{}, nil, err
	}
	return img, release, nil
}

// obtain gets an image that has no directory of that name.
func (s *Store) obtain(ctx context.Context, name string, pf api.ProgressFunc) (Image, error) {
	offer := s.cfg.Catalog(ctx)
	if entry, ok := offer.Image(name); ok {
		return s.fromCatalog(ctx, entry, entry.Name, pf, s.depot.Ensure)
	}
	if !looksLikeReference(name) {
		return Image{}, errUnknown(name, offer)
	}
	if img, ok := s.findReference(name); ok {
		return img, nil
	}
	return s.fromRegistry(ctx, api.PullImage{Ref: name}, pf, s.depot.Ensure)
}

// find returns an image that is there. The error matches api.ErrNotFound if it
// isn't.
func (s *Store) find(ctx context.Context, name string) (Image, error) {
	img, err := s.depot.Get(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return img, err
	}
	if img, ok := s.findReference(name); ok {
		return img, nil
	}
	offer := s.cfg.Catalog(ctx)
	if _, ok := offer.Image(name); ok {
		return Image{}, api.Errorf(api.CodeNotFound, "image %s is not on this host yet", name).
			WithHint("it is fetched when a VM first needs it; banger image pull %s does it now", name)
	}
	return Image{}, errUnknown(name, offer)
}

func errUnknown(name string, offer catalog.Catalog) error {
	var names []string
	for _, i := range offer.Images {
		names = append(names, i.Name)
	}
	return api.Errorf(api.CodeNotFound, "there is no image %q", name).
		WithHint("banger image list shows those on this host; the catalog has %s; a registry's image needs a tag, such as alpine:3.20",
			strings.Join(names, ", "))
}

// makeFunc is depot.Ensure or a call of depot.Replace.
type makeFunc func(ctx context.Context, name string, pf api.ProgressFunc, job depot.Job) (Image, error)

// replace makes an image anew, unless a VM uses the old one.
func (s *Store) replace(ctx context.Context, name string, pf api.ProgressFunc, job depot.Job) (Image, error) {
	return s.depot.Replace(ctx, name, pf, s.unused(name), job)
}

// unused returns a check that fails if a VM uses the image.
func (s *Store) unused(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		users, err := s.guests.Users(ctx, name)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return api.Errorf(api.CodeConflict, "image %s is used by %s", name, vms(users)).
				WithHint("delete what uses it first (banger vm delete), or choose another name for the new image")
		}
		return nil
	}
}

// vms names VMs in a sentence.
func vms(names []string) string {
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%d VMs (%s, …)", len(names), strings.Join(names[:most], ", "))
	}
	if len(names) == 1 {
		return "VM " + names[0]
	}
	return "VMs " + strings.Join(names, ", ")
}

// arch is the machine that images must be for.
func arch() string { return runtime.GOARCH }

// OfKernel returns the names of the images that boot a kernel.
func (s *Store) OfKernel(kernel string) ([]string, error) {
	all, err := s.depot.List()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, img := range all {
		if img.Kernel == kernel {
			names = append(names, img.Name)
		}
	}
	return names, nil
}
