package daemon

import (
	"context"

	"banger/internal/api"
)

// Kernels is what the daemon needs of the kernel service.
type Kernels interface {
	Inventory[api.Kernel]
	Pull(ctx context.Context, req api.PullKernel, progress api.ProgressFunc) (api.Kernel, error)
	Import(ctx context.Context, req api.ImportKernel, progress api.ProgressFunc) (api.Kernel, error)
}

// routeKernels registers the calls on kernels.
func (s *Server) routeKernels() {
	routeInventory(s, s.kernels, inventoryRoutes[api.Kernel]{
		"kernel", api.ListKernels, api.GetKernel, api.ListCatalogKernels, api.ExportKernelRoute, api.DeleteKernelRoute, api.PruneKernelsRoute,
	})
	stream(s, api.PullKernelRoute, func(ctx context.Context, _ pathValues, req api.PullKernel, progress api.ProgressFunc) (api.Kernel, error) {
		return s.kernels.Pull(ctx, req, progress)
	})
	stream(s, api.ImportKernelRoute, func(ctx context.Context, _ pathValues, req api.ImportKernel, progress api.ProgressFunc) (api.Kernel, error) {
		return s.kernels.Import(ctx, req, progress)
	})
}
