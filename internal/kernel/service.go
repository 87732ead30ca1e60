package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"banger/internal/api"
	"banger/internal/diskusage"
)

// List describes every kernel that is here, by name. A damaged one takes none of
// the others away.
func (s *Store) List(ctx context.Context) ([]api.Kernel, error) {
	kernels, damaged, err := s.depot.Scan()
	if err != nil {
		return nil, err
	}
	all := make([]api.Kernel, 0, len(kernels))
	for _, k := range kernels {
		one, err := s.describe(ctx, k)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	for _, d := range damaged {
		users, err := s.usedBy(ctx, d.Name)
		if err != nil {
			return nil, err
		}
		all = append(all, api.Kernel{Name: d.Name, UsedBy: users, Damaged: d.Err.Error()})
	}
	slices.SortFunc(all, func(a, b api.Kernel) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
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
