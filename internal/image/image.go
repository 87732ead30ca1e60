// Package image keeps the images that VMs start from: read-only root file
// systems that all their VMs share, made of a distribution's own signed
// packages by recipes in a catalog.
package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/depot"
	"banger/internal/paths"
)

// The files in an image's directory.
const (
	rootfsFile   = "rootfs.ext4"
	packagesFile = "packages.txt"
	manifestFile = "manifest.json"
)

// Image is an image that is ready for use. Paths are absolute.
type Image struct {
	Name      string
	Distro    string // e.g. "debian bookworm"
	Arch      string // as Debian and Go call it
	Kernel    string // name of the kernel that its VMs boot
	Rootfs    string // ext4, read-only
	Dir       string
	RealDirs  []string // directories that its VMs keep on the disk instead of the overlay
	SizeBytes int64    // of Rootfs, holes included
	Created   time.Time
}

// manifest is manifest.json.
type manifest struct {
	Name      string    `json:"name"`
	Distro    string    `json:"distro"`
	Arch      string    `json:"arch"`
	Kernel    string    `json:"kernel"`
	RealDirs  []string  `json:"real_dirs"`
	SizeBytes int64     `json:"size_bytes"`
	Created   time.Time `json:"created"`
}

// Store keeps the images of one user.
type Store struct {
	log   *slog.Logger
	depot *depot.Depot[Image]
}

// New returns the store of a layout.
func New(layout paths.Layout, log *slog.Logger) *Store {
	return &Store{log: log, depot: depot.New(layout.ImagesDir(), load, log)}
}

// Ensure returns an image and, if it is of the catalog and isn't there, makes
// it first, which takes the network and up to some minutes. Calls that
// overlap share the work. pf may be nil. The image's kernel is another matter.
func (s *Store) Ensure(ctx context.Context, name string, pf api.ProgressFunc) (Image, error) {
	if img, err := s.Get(name); err == nil {
		return img, nil
	}
	r, ok := catalog()[name]
	if !ok {
		return Image{}, errUnknown(name)
	}
	img, err := s.depot.Ensure(ctx, name, pf, depot.Job{
		Phase: "image-build",
		Title: "building image " + name,
		Build: func(ctx context.Context, dir string, report depot.Report) error {
			return build(ctx, name, r, dir, report, s.log)
		},
	})
	if err != nil {
		return Image{}, fmt.Errorf("build image %s: %w", name, err)
	}
	return img, nil
}

// Get returns an image that is there. The error matches api.ErrNotFound if it
// isn't.
func (s *Store) Get(name string) (Image, error) {
	img, err := s.depot.Get(name)
	if errors.Is(err, fs.ErrNotExist) {
		if _, ok := catalog()[name]; !ok {
			return Image{}, errUnknown(name)
		}
		return Image{}, api.Errorf(api.CodeNotFound, "image %s is not on this host yet", name).
			WithHint("it is made when a VM first needs it")
	}
	return img, err
}

// List returns the images that are there, by name.
func (s *Store) List() ([]Image, error) { return s.depot.List() }

// Clean removes what the builds of a killed bangerd left. Call it at start-up,
// before any Ensure.
func (s *Store) Clean(ctx context.Context) error { return s.depot.Clean(ctx) }

func errUnknown(name string) error {
	return api.Errorf(api.CodeNotFound, "there is no image %q", name).
		WithHint("known images: %s", strings.Join(Names(), ", "))
}

// load reads an image's directory.
func load(dir string) (Image, error) {
	data, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return Image{}, fmt.Errorf("read the image's manifest: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return Image{}, api.Errorf(api.CodeInternal, "the manifest of image %s is damaged: %v", filepath.Base(dir), err).
			WithHint("delete %s; the image is made anew when needed, but VMs that were made from it are lost", dir)
	}
	img := Image{
		Name:      m.Name,
		Distro:    m.Distro,
		Arch:      m.Arch,
		Kernel:    m.Kernel,
		Rootfs:    filepath.Join(dir, rootfsFile),
		Dir:       dir,
		RealDirs:  m.RealDirs,
		SizeBytes: m.SizeBytes,
		Created:   m.Created,
	}
	if _, err := os.Stat(img.Rootfs); err != nil {
		return Image{}, fmt.Errorf("look for the files of image %s: %w", m.Name, err)
	}
	return img, nil
}
