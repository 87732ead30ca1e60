package vm

import (
	"context"
	"fmt"
	"io"
	"strings"

	"banger/internal/api"
	"banger/internal/guest"
)

// cargo is what is copied into a new VM.
type cargo struct {
	workspace Workspace // nil without one
	copies    []Workspace
}

// inspect checks what is to be copied into a new VM, before there is one.
func (m *Manager) inspect(ctx context.Context, req api.CreateVM) (c cargo, err error) {
	if req.NoStart && (req.Workspace != nil || len(req.Copies) > 0) {
		return c, api.Errorf(api.CodeInvalid, "nothing can be copied into a VM that isn't started").
			WithHint("let it start, and stop it when it is ready")
	}
	var places []api.WorkspaceInfo
	if req.Workspace != nil {
		if c.workspace, err = m.cfg.Inspect(ctx, *req.Workspace); err != nil {
			return c, err
		}
		places = append(places, c.workspace.Info())
	}
	for _, wanted := range req.Copies {
		ws, err := m.cfg.InspectCopy(ctx, wanted)
		if err != nil {
			return c, err
		}
		if err := checkApart(ws.Info(), places); err != nil {
			return c, err
		}
		places = append(places, ws.Info())
		c.copies = append(c.copies, ws)
	}
	return c, nil
}

// checkApart refuses a copy that would be mixed up with an earlier one in the guest.
func checkApart(added api.WorkspaceInfo, places []api.WorkspaceInfo) error {
	for _, other := range places {
		inner, outer := added, other
		if strings.HasPrefix(other.GuestPath, added.GuestPath+"/") {
			inner, outer = other, added
		}
		var err *api.Error
		switch {
		case added.GuestPath == other.GuestPath:
			err = api.Errorf(api.CodeInvalid, "%s and %s would both be at %s in the VM", other.HostPath, added.HostPath, added.GuestPath)
		case strings.HasPrefix(inner.GuestPath, outer.GuestPath+"/"):
			err = api.Errorf(api.CodeInvalid, "%s would be at %s in the VM, inside of %s, which goes to %s",
				inner.HostPath, inner.GuestPath, outer.HostPath, outer.GuestPath)
		default:
			continue
		}
		return err.WithHint("give one of them another place, such as %s:/srv/NAME", added.HostPath)
	}
	return nil
}

// push copies the cargo into the guest, the workspace first.
func (b *bringUp) push(ctx context.Context) error {
	if b.cargo.workspace != nil {
		err := b.phases.measure("workspace", func() error { return b.pushOne(ctx, b.cargo.workspace) })
		if err != nil {
			return err
		}
	}
	if len(b.cargo.copies) == 0 {
		return nil
	}
	return b.phases.measure("copies", func() error {
		for _, ws := range b.cargo.copies {
			if err := b.pushOne(ctx, ws); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bringUp) pushOne(ctx context.Context, ws Workspace) error {
	ctx, cancel := b.inst.bound(ctx)
	defer cancel()
	client := guest.NewClient(b.inst.machine.DialGuest)
	info := ws.Info()
	extract := func(ctx context.Context, path string, tar io.Reader) error {
		return client.Extract(ctx, guest.ExtractParams{Path: path, ReadOnly: info.ReadOnly}, tar)
	}
	if err := ws.Push(ctx, extract, b.phases.progress); err != nil {
		return b.inst.explain(ctx, fmt.Errorf("copy %s into VM %s: %w", info.HostPath, b.rec.Name, err))
	}
	return nil
}

// infos tells what the further copies are, for the record of a VM that has them.
func (c cargo) infos() []api.WorkspaceInfo {
	var infos []api.WorkspaceInfo
	for _, ws := range c.copies {
		infos = append(infos, ws.Info())
	}
	return infos
}

// readOnlyPaths are the directories that are mounted read-only at each boot from
// when they have been copied on.
func readOnlyPaths(rec Record) []string {
	var paths []string
	for _, c := range rec.Copies {
		if c.ReadOnly {
			paths = append(paths, c.GuestPath)
		}
	}
	return paths
}
