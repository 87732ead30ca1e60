package daemon

import (
	"context"

	"banger/internal/api"
)

// Images is what the daemon needs of the image service.
type Images interface {
	Inventory[api.Image]
	Pull(ctx context.Context, req api.PullImage, progress api.ProgressFunc) (api.Image, error)
	Register(ctx context.Context, req api.RegisterImage) (api.Image, error)
	Build(ctx context.Context, req api.BuildImage, progress api.ProgressFunc) (api.Image, error)
	Commit(ctx context.Context, req api.CommitImage, progress api.ProgressFunc) (api.Image, error)
}

// routeImages registers the calls on images.
func (s *Server) routeImages() {
	routeInventory(s, s.images, inventoryRoutes[api.Image]{
		"image", api.ListImages, api.GetImage, api.ListCatalogImages, api.ExportImageRoute, api.DeleteImageRoute, api.PruneImagesRoute,
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
}
