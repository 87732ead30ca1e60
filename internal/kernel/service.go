package kernel

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"banger/internal/api"
	"banger/internal/depot"
	"banger/internal/diskusage"
)

// List describes every kernel that is here, by name. A damaged one takes none of
// the others away.
func (s *Store) List(ctx context.Context) ([]api.Kernel, error) {
	return depot.Describe(s.depot, func(k Kernel) (api.Kernel, error) { return s.describe(ctx, k) },
		func(d depot.Damaged) (api.Kernel, error) {
			users, err := s.usedBy(ctx, d.Name)
			return api.Kernel{Name: d.Name, UsedBy: users, Damaged: d.Err.Error()}, err
		}, func(k api.Kernel) string { return k.Name })
}

// Get describes one kernel that is here.
func (s *Store) Get(ctx context.Context, name string) (api.Kernel, error) {
	k, err := s.Find(ctx, name)
	if err != nil {
		return api.Kernel{}, err
	}
	return s.describe(ctx, k)
}

// Catalog lists the kernels that can be had for this machine.
func (s *Store) Catalog(ctx context.Context) ([]api.CatalogEntry, error) {
	entries := []api.CatalogEntry{}
	for _, k := range s.catalog(ctx).Kernels {
		if !s.available(k) {
			continue
		}
		e := api.CatalogEntry{Name: k.Name, Description: k.Description, Arch: k.Arch, DiskBytes: k.DiskBytes}
		if b, ok := k.BundleFor(s.arch); ok {
			e.Origin, e.DownloadBytes = api.OriginBundle, b.Bytes
		} else {
			e.Origin, e.DownloadBytes = api.OriginRecipe, k.Recipe.DownloadBytes
		}
		_, err := s.depot.Get(k.Name)
		e.Here = err == nil
		entries = append(entries, e)
	}
	return entries, nil
}

// Delete deletes a kernel that nobody uses.
func (s *Store) Delete(ctx context.Context, name string) error {
	err := s.depot.Remove(ctx, name, func(ctx context.Context) error {
		users, err := s.usedBy(ctx, name)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return api.Errorf(api.CodeConflict, "kernel %s is used by %s", name, strings.Join(users, ", ")).
				WithHint("delete these first")
		}
		return nil
	})
	return s.explainMissing(ctx, name, err)
}

// Prune deletes the kernels that nobody uses and that the catalog can bring
// back.
func (s *Store) Prune(ctx context.Context, req api.Prune) (api.Pruned, error) {
	pruned := api.Pruned{Removed: []api.PrunedItem{}}
	kernels, err := s.List(ctx)
	if err != nil {
		return pruned, err
	}
	for _, k := range kernels {
		if len(k.UsedBy) > 0 || !s.returns(ctx, k) {
			continue
		}
		if !req.DryRun {
			err := s.Delete(ctx, k.Name)
			if errors.Is(err, api.ErrConflict) || errors.Is(err, api.ErrNotFound) {
				continue // somebody was quicker
			}
			if err != nil {
				return pruned, fmt.Errorf("delete kernel %s: %w", k.Name, err)
			}
		}
		pruned.Removed = append(pruned.Removed, api.PrunedItem{Kind: "kernel", Name: k.Name, Bytes: k.DiskBytes})
		pruned.Bytes += k.DiskBytes
	}
	return pruned, nil
}

// returns tells whether Ensure would bring a deleted kernel back.
func (s *Store) returns(ctx context.Context, k api.Kernel) bool {
	_, ok := s.entry(ctx, k.Name)
	return ok && k.Source == catalogSource(k.Name)
}

func (s *Store) describe(ctx context.Context, k Kernel) (api.Kernel, error) {
	users, err := s.usedBy(ctx, k.Name)
	if err != nil {
		return api.Kernel{}, fmt.Errorf("look who uses kernel %s: %w", k.Name, err)
	}
	damaged := ""
	bytes, err := diskusage.Tree(k.Dir)
	if err != nil {
		damaged = fmt.Sprintf("measure it: %v", err)
	}
	return api.Kernel{
		Name:      k.Name,
		Release:   k.Release,
		Version:   k.Version,
		Arch:      k.Arch,
		Origin:    k.Origin,
		Source:    k.Source,
		DiskBytes: bytes,
		UsedBy:    users,
		Damaged:   damaged,
		Created:   k.Created,
	}, nil
}
