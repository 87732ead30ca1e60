package daemon

import (
	"context"

	"banger/internal/api"
)

// Images is what the daemon needs of the image service.
type Images interface {
	List(ctx context.Context) ([]api.Image, error)
	Get(ctx context.Context, name string) (api.Image, error)
	Catalog(ctx context.Context) ([]api.CatalogEntry, error)
	Pull(ctx context.Context, req api.PullImage, progress api.ProgressFunc) (api.Image, error)
	Register(ctx context.Context, req api.RegisterImage) (api.Image, error)
	Build(ctx context.Context, req api.BuildImage, progress api.ProgressFunc) (api.Image, error)
	Commit(ctx context.Context, req api.CommitImage, progress api.ProgressFunc) (api.Image, error)
	Export(ctx context.Context, name string, req api.ExportImage, progress api.ProgressFunc) (api.Exported, error)
	Delete(ctx context.Context, name string) error
	Prune(ctx context.Context, req api.Prune) (api.Pruned, error)
}

// routeImages registers the calls on images.
func (s *Server) routeImages() {
	handle(s, api.ListImages, func(ctx context.Context, _ pathValues, _ api.None) ([]api.Image, error) {
		images, err := s.images.List(ctx)
		return notNull(images), err
	})
	handle(s, api.GetImage, func(ctx context.Context, path pathValues, _ api.None) (api.Image, error) {
		return s.images.Get(ctx, path("image"))
	})
	handle(s, api.ListCatalogImages, func(ctx context.Context, _ pathValues, _ api.None) ([]api.CatalogEntry, error) {
		entries, err := s.images.Catalog(ctx)
		return notNull(entries), err
	})
	stream(s, api.PullImageRoute, func(ctx context.Context, _ pathValues, req api.PullImage, progress api.ProgressFunc) (api.Image, error) {
		return s.images.Pull(ctx, req, progress)
	})
	handle(s, api.RegisterImageRoute, func(ctx context.Context, _ pathValues, req api.RegisterImage) (api.Image, error) {
		return s.images.Register(ctx, req)
	})
	stream(s, api.BuildImageRoute, func(ctx context.Context, _ pathValues, req api.BuildImage, progress api.ProgressFunc) (api.Image, error) {
		return s.images.Build(ctx, req, progress)
	})
	stream(s, api.CommitImageRoute, func(ctx context.Context, _ pathValues, req api.CommitImage, progress api.ProgressFunc) (api.Image, error) {
		return s.images.Commit(ctx, req, progress)
	})
	stream(s, api.ExportImageRoute, func(ctx context.Context, path pathValues, req api.ExportImage, progress api.ProgressFunc) (api.Exported, error) {
		return s.images.Export(ctx, path("image"), req, progress)
	})
	handle(s, api.DeleteImageRoute, func(ctx context.Context, path pathValues, _ api.None) (api.None, error) {
		return api.None{}, s.images.Delete(ctx, path("image"))
	})
	handle(s, api.PruneImagesRoute, func(ctx context.Context, _ pathValues, req api.Prune) (api.Pruned, error) {
		pruned, err := s.images.Prune(ctx, req)
		pruned.Removed = notNull(pruned.Removed)
		return pruned, err
	})
}
