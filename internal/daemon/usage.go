package daemon

import (
	"context"

	"banger/internal/api"
)

// Usage is what the daemon needs to tell how much of the disk is taken.
type Usage interface {
	Usage(ctx context.Context) (api.Usage, error)
}

// routeUsage registers the call on disk usage.
func (s *Server) routeUsage() {
	handle(s, api.GetUsage, func(ctx context.Context, _ pathValues, _ api.None) (api.Usage, error) {
		usage, err := s.usage.Usage(ctx)
		usage.Items = notNull(usage.Items)
		return usage, err
	})
}
