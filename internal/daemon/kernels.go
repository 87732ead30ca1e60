package daemon

import (
	"context"

	"banger/internal/api"
)

// Kernels is what the daemon needs of the kernel service.
type Kernels interface {
	List(ctx context.Context) ([]api.Kernel, error)
	Get(ctx context.Context, name string) (api.Kernel, error)
	Catalog(ctx context.Context) ([]api.CatalogEntry, error)
	Pull(ctx context.Context, req api.PullKernel, progress api.ProgressFunc) (api.Kernel, error)
	Import(ctx context.Context, req api.ImportKernel, progress api.ProgressFunc) (api.Kernel, error)
	Export(ctx context.Context, name string, req api.ExportImage, progress api.ProgressFunc) (api.Exported, error)
	Delete(ctx context.Context, name string) error
	Prune(ctx context.Context, req api.Prune) (api.Pruned, error)
}

// routeKernels registers the calls on kernels.
func (s *Server) routeKernels() {
	handle(s, api.ListKernels, func(ctx context.Context, _ pathValues, _ api.None) ([]api.Kernel, error) {
		kernels, err := s.kernels.List(ctx)
		return notNull(kernels), err
	})
	handle(s, api.GetKernel, func(ctx context.Context, path pathValues, _ api.None) (api.Kernel, error) {
		return s.kernels.Get(ctx, path("kernel"))
	})
	handle(s, api.ListCatalogKernels, func(ctx context.Context, _ pathValues, _ api.None) ([]api.CatalogEntry, error) {
		entries, err := s.kernels.Catalog(ctx)
		return notNull(entries), err
	})
	stream(s, api.PullKernelRoute, func(ctx context.Context, _ pathValues, req api.PullKernel, progress api.ProgressFunc) (api.Kernel, error) {
		return s.kernels.Pull(ctx, req, progress)
	})
	stream(s, api.ImportKernelRoute, func(ctx context.Context, _ pathValues, req api.ImportKernel, progress api.ProgressFunc) (api.Kernel, error) {
		return s.kernels.Import(ctx, req, progress)
	})
	stream(s, api.ExportKernelRoute, func(ctx context.Context, path pathValues, req api.ExportImage, progress api.ProgressFunc) (api.Exported, error) {
		return s.kernels.Export(ctx, path("kernel"), req, progress)
	})
	handle(s, api.DeleteKernelRoute, func(ctx context.Context, path pathValues, _ api.None) (api.None, error) {
		return api.None{}, s.kernels.Delete(ctx, path("kernel"))
	})
	handle(s, api.PruneKernelsRoute, func(ctx context.Context, _ pathValues, req api.Prune) (api.Pruned, error) {
		pruned, err := s.kernels.Prune(ctx, req)
		pruned.Removed = notNull(pruned.Removed)
		return pruned, err
	})
}
