package image

import (
	"context"
	"fmt"
	"slices"
	"time"

	"banger/internal/api"
	"banger/internal/depot"
	"banger/internal/diskusage"
)

// List describes the images that are there, by name. A damaged one takes none of
// the others away.
func (s *Store) List(ctx context.Context) ([]api.Image, error) {
	return depot.Describe(s.depot, func(img Image) (api.Image, error) { return s.describe(ctx, img) },
		func(d depot.Damaged) (api.Image, error) {
			users, err := s.guests.Users(ctx, d.Name)
			return api.Image{Name: d.Name, UsedBy: append([]string{}, users...), Damaged: d.Err.Error()}, err
		}, func(img api.Image) string { return img.Name })
}

// Get describes an image by its name, or by the reference that it was pulled
// by.
func (s *Store) Get(ctx context.Context, name string) (api.Image, error) {
	img, err := s.find(ctx, name)
	if err != nil {
		return api.Image{}, err
	}
	return s.describe(ctx, img)
}

func (s *Store) describe(ctx context.Context, img Image) (api.Image, error) {
	users, err := s.guests.Users(ctx, img.Name)
	if err != nil {
		return api.Image{}, err
	}
	damaged := ""
	bytes, err := diskusage.Tree(img.Dir)
	if err != nil {
		damaged = fmt.Sprintf("measure it: %v", err)
	}
	return api.Image{
		Name: img.Name, Distro: img.Distro, Arch: img.Arch, Kernel: img.Kernel,
		Origin: img.Origin, Source: img.Source, Digest: img.Digest,
		Rootfs: img.Rootfs, SizeBytes: img.SizeBytes, DiskBytes: bytes,
		RealDirs: img.RealDirs, Config: img.Config,
		UsedBy:  append([]string{}, users...), // [] in JSON, not null
		Created: img.Created.UTC().Truncate(time.Second),
		Damaged: damaged,
	}, nil
}

// Catalog describes what is offered for this machine.
func (s *Store) Catalog(ctx context.Context) ([]api.CatalogEntry, error) {
	entries := []api.CatalogEntry{}
	for _, offer := range s.cfg.Catalog(ctx).Images {
		entry := api.CatalogEntry{
			Name: offer.Name, Description: offer.Description, Distro: offer.Distro, Arch: offer.Arch,
			Kernel: offer.Kernel, DiskBytes: offer.DiskBytes, Default: offer.Name == s.cfg.Default,
		}
		published, hasBundle := offer.BundleFor(arch())
		switch {
		case hasBundle:
			entry.Origin, entry.DownloadBytes = api.OriginBundle, published.Bytes
		case offer.Recipe != nil && slices.Contains(offer.Arch, arch()):
			entry.Origin, entry.DownloadBytes = api.OriginRecipe, offer.Recipe.DownloadBytes
		default:
			continue // it can't be had here
		}
		_, err := s.depot.Get(offer.Name)
		entry.Here = err == nil
		entries = append(entries, entry)
	}
	return entries, nil
}
