package daemon

import (
	"context"

	"banger/internal/api"
)

// Inventory is what the services of images and of kernels have in common: things
// of the host's that have names. T describes one.
type Inventory[T any] interface {
	List(ctx context.Context) ([]T, error)
	Get(ctx context.Context, name string) (T, error)
	Catalog(ctx context.Context) ([]api.CatalogEntry, error)
	Export(ctx context.Context, name string, req api.ExportImage, progress api.ProgressFunc) (api.Exported, error)
	Delete(ctx context.Context, name string) error
	Prune(ctx context.Context, req api.Prune) (api.Pruned, error)
}

// inventoryRoutes are those of the calls on an Inventory; in their paths, things
// are called noun.
type inventoryRoutes[T any] struct {
	noun    string
	list    api.Route[api.None, []T]
	get     api.Route[api.None, T]
	catalog api.Route[api.None, []api.CatalogEntry]
	export  api.Stream[api.ExportImage, api.Exported]
	remove  api.Route[api.None, api.None]
	prune   api.Route[api.Prune, api.Pruned]
}

// routeInventory registers the calls on an Inventory.
func routeInventory[T any](s *Server, things Inventory[T], r inventoryRoutes[T]) {
	handle(s, r.list, func(ctx context.Context, _ pathValues, _ api.None) ([]T, error) {
		all, err := things.List(ctx)
		return notNull(all), err
	})
	handle(s, r.get, func(ctx context.Context, path pathValues, _ api.None) (T, error) {
		return things.Get(ctx, path(r.noun))
	})
	handle(s, r.catalog, func(ctx context.Context, _ pathValues, _ api.None) ([]api.CatalogEntry, error) {
		entries, err := things.Catalog(ctx)
		return notNull(entries), err
	})
	stream(s, r.export, func(ctx context.Context, path pathValues, req api.ExportImage, progress api.ProgressFunc) (api.Exported, error) {
		return things.Export(ctx, path(r.noun), req, progress)
	})
	handle(s, r.remove, func(ctx context.Context, path pathValues, _ api.None) (api.None, error) {
		return api.None{}, things.Delete(ctx, path(r.noun))
	})
	handle(s, r.prune, func(ctx context.Context, _ pathValues, req api.Prune) (api.Pruned, error) {
		pruned, err := things.Prune(ctx, req)
		pruned.Removed = notNull(pruned.Removed)
		return pruned, err
	})
}
