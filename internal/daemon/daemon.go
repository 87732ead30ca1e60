package daemon

import (
	"context"
	"os"

	"banger/internal/api"
)

// routeDaemon registers the calls on bangerd itself.
func (s *Server) routeDaemon() {
	handle(s, api.GetVersion, func(context.Context, pathValues, api.None) (api.Version, error) {
		p, err := process()
		if err != nil {
			s.log.Warn("look at this process", "err", err)
		}
		return api.Version{Version: s.version, PID: os.Getpid(), Problems: s.hosts.Problems(), Process: p}, nil
	})
	handle(s, api.GetHost, func(ctx context.Context, _ pathValues, _ api.None) (api.Host, error) {
		return s.hosts.Host(ctx)
	})
	handle(s, api.Shutdown, func(context.Context, pathValues, api.None) (api.None, error) {
		// Serve waits for this request before it returns.
		s.stopOnce.Do(func() { close(s.stop) })
		return api.None{}, nil
	})
}
