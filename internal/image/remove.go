package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"banger/internal/api"
	"banger/internal/diskusage"
	"banger/internal/download"
	"banger/internal/image/oci"
)

// Delete removes an image that no VM uses; of a registered one only its
// registration.
func (s *Store) Delete(ctx context.Context, name string) error {
	err := s.depot.Remove(ctx, name, s.mayGo(name)) // also one that can't be read any more
	if errors.Is(err, fs.ErrNotExist) {
		var img Image
		if img, err = s.find(ctx, name); err == nil { // by the reference that it was pulled by
			err = s.depot.Remove(ctx, img.Name, s.mayGo(img.Name))
		}
	}
	return wrap(err, "delete image %s", name)
}

// mayGo returns a check that fails if a VM uses the image.
func (s *Store) mayGo(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		users, err := s.guests.Users(ctx, name)
		if err != nil || len(users) == 0 {
			return err
		}
		return api.Errorf(api.CodeConflict, "it is used by %s", vms(users)).WithHint("delete what uses it first: banger vm delete")
	}
}

// Prune removes the images that no VM uses and that can be had again, the
// layers that were kept for them, and what is left of downloads.
func (s *Store) Prune(ctx context.Context, req api.Prune) (api.Pruned, error) {
	pruned := api.Pruned{Removed: []api.PrunedItem{}}
	all, err := s.depot.List()
	if err != nil {
		return pruned, err
	}
	for _, img := range all {
		reclaimable, err := s.reclaimable(ctx, img)
		if err != nil {
			return pruned, err
		}
		if !reclaimable {
			continue
		}
		bytes, err := diskusage.Tree(img.Dir)
		if err != nil {
			return pruned, fmt.Errorf("measure image %s: %w", img.Name, err)
		}
		if !req.DryRun {
			err := s.depot.Remove(ctx, img.Name, s.mayGo(img.Name))
			if errors.Is(err, api.ErrConflict) || errors.Is(err, fs.ErrNotExist) {
				continue // a VM was made of it, or it went, at this moment
			}
			if err != nil {
				return pruned, fmt.Errorf("delete image %s: %w", img.Name, err)
			}
		}
		pruned.Removed = append(pruned.Removed, api.PrunedItem{Kind: "image", Name: img.Name, Bytes: bytes})
		pruned.Bytes += bytes
	}
	for _, cache := range []struct {
		dir   string
		prune func(ctx context.Context, dryRun bool) (int64, error)
	}{
		{s.cfg.Layout.OCICache(), s.pruneLayers},
		{s.cfg.Layout.DownloadsDir(), s.pruneDownloads},
	} {
		bytes, err := cache.prune(ctx, req.DryRun)
		if err != nil {
			return pruned, err
		}
		if bytes > 0 {
			pruned.Removed = append(pruned.Removed, api.PrunedItem{Kind: "cache", Name: filepath.Base(cache.dir), Bytes: bytes})
			pruned.Bytes += bytes
		}
	}
	return pruned, nil
}

// reclaimable tells whether no VM uses an image and a pull would bring it back:
// what a user has built, committed, unpacked or registered stays.
func (s *Store) reclaimable(ctx context.Context, img Image) (bool, error) {
	users, err := s.guests.Users(ctx, img.Name)
	if err != nil || len(users) > 0 {
		return false, err
	}
	if img.Origin == api.OriginOCI {
		return true, nil
	}
	entry, known := s.cfg.Catalog(ctx).Image(img.Name)
	return known && (img.Source == "" || img.Source == catalogSource(entry)), nil
}

// pruneLayers empties the cache of registries' layers and returns its bytes.
func (s *Store) pruneLayers(ctx context.Context, dryRun bool) (int64, error) {
	if dryRun {
		return oci.CacheUsage(s.cfg.Layout.OCICache())
	}
	return oci.PruneCache(ctx, s.cfg.Layout.OCICache(), func(string) bool { return false })
}

// pruneDownloads removes what downloads left that were cut off.
func (s *Store) pruneDownloads(ctx context.Context, dryRun bool) (int64, error) {
	return download.Prune(ctx, s.cfg.Layout.DownloadsDir(), dryRun)
}
