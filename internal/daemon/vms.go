package daemon

import (
	"context"

	"banger/internal/api"
)

// routeVMs registers the calls on VMs.
func (s *Server) routeVMs() {
	handle(s, api.ListVMs, func(ctx context.Context, _ pathValues, _ api.None) ([]api.VM, error) {
		vms, err := s.vms.List(ctx)
		return notNull(vms), err
	})
	handle(s, api.GetVM, func(ctx context.Context, path pathValues, _ api.None) (api.VM, error) {
		return s.vms.Get(ctx, path("vm"))
	})
	stream(s, api.CreateVMRoute, func(ctx context.Context, _ pathValues, req api.CreateVM, progress api.ProgressFunc) (api.VM, error) {
		return s.vms.Create(ctx, req, progress)
	})
	stream(s, api.StartVMRoute, func(ctx context.Context, path pathValues, req api.StartVM, progress api.ProgressFunc) (api.VM, error) {
		return s.vms.Start(ctx, path("vm"), req, progress)
	})
	stream(s, api.StopVMRoute, func(ctx context.Context, path pathValues, req api.StopVM, progress api.ProgressFunc) (api.VM, error) {
		return s.vms.Stop(ctx, path("vm"), req, progress)
	})
	handle(s, api.DeleteVMRoute, func(ctx context.Context, path pathValues, req api.DeleteVM) (api.None, error) {
		return api.None{}, s.vms.Delete(ctx, path("vm"), req)
	})
	handle(s, api.GetAccess, func(ctx context.Context, path pathValues, _ api.None) (api.Access, error) {
		return s.vms.Access(ctx, path("vm"))
	})
	s.handleRaw("GET", api.LogsPath, "console log as text; ?follow=1 goes on until the client leaves", s.logs)
	s.handleRaw("POST", api.DialPath, "raw connection to a port of the guest's agent, by Upgrade: "+api.UpgradeProtocol, s.dial)
}
