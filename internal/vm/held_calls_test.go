package vm

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm"
	"banger/internal/vmm/vmmtest"
)

// TestHeldWhileStopping: a guest that is held on its way down isn't ended without
// its last writes. It goes down once it can.
func TestHeldWhileStopping(t *testing.T) {
	w, asked, letGo := slowToStop(t)
	vm := w.create(t, api.CreateVM{Name: "web"})
	hold := w.driver.VM(vm.ID).Hold
	result := w.stopping(t.Context(), "web")
	<-asked
	hold(vmm.DiskFull)
	wantHeld(t, "stop", <-result)
	wantHeld(t, "stop again", errorOf(w.Stop(t.Context(), "web", api.StopVM{}, nil)))
	if got, err := w.Get(t.Context(), "web"); err != nil || got.State != api.StateStopping || !strings.Contains(got.Reason, vmm.DiskFull) {
		t.Errorf("%+v, %v", got, err)
	}
	hold("")
	close(letGo)
	waitFor(t, func() bool { vm, err := w.Get(t.Context(), "web"); return err == nil && vm.State == api.StateStopped })
}

// unready is a world whose guests boot, and finish booting when they are let go.
func unready(t *testing.T) (w *world, booted chan *vmmtest.VM, letGo chan struct{}) {
	t.Helper()
	w, booted, letGo = newWorld(t), make(chan *vmmtest.VM, 2), make(chan struct{})
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		agent := vmmtest.NewAgent(vm)
		agent.OnBoot = func(guest.BootConfig) error { booted <- vm; return nil }
		agent.OnReady = func() { <-letGo }
		return agent.Serve
	})
	return w, booted, letGo
}

// TestHeldWhileStarting: a guest that has booted waits for the host's disk, and is
// kept as it would be without a call that waits for it.
func TestHeldWhileStarting(t *testing.T) {
	w, booted, letGo := unready(t)
	w.create(t, api.CreateVM{Name: "web", NoStart: true})
	result := make(chan error, 1)
	go func() { result <- errorOf(w.Start(t.Context(), "web", api.StartVM{}, nil)) }()
	vm := <-booted
	waitFor(t, func() bool { rec, err := w.records.find(t.Context(), "web"); return err == nil && rec.Stage.hasGuest() })
	vm.Hold(vmm.DiskFull)
	wantHeld(t, "start", <-result)
	if got, err := w.Get(t.Context(), "web"); err != nil || got.State != api.StatePaused {
		t.Errorf("%+v, %v", got, err)
	}
	vm.Hold("")
	close(letGo)
	waitFor(t, func() bool { got, err := w.Get(t.Context(), "web"); return err == nil && got.State == api.StateRunning })
}

// heldWorkspace is copied into a guest that is held meanwhile.
type heldWorkspace struct {
	fakeWorkspace
	hold func()
}

func (h heldWorkspace) Push(ctx context.Context, _ func(context.Context, string, io.Reader) error, _ api.ProgressFunc) error {
	h.hold()
	<-ctx.Done()
	return ctx.Err()
}

// TestHeldWhileCopiedTo: half of a workspace is of no use. The VM goes, and nobody
// is told to wait for it.
func TestHeldWhileCopiedTo(t *testing.T) {
	w, booted, letGo := unready(t)
	close(letGo)
	w.config.Inspect = func(context.Context, api.Workspace) (Workspace, error) {
		return heldWorkspace{hold: func() { (<-booted).Hold(vmm.DiskFull) }}, nil
	}
	w.restart(t)
	_, err := w.Create(t.Context(), api.CreateVM{Name: "web", Workspace: &api.Workspace{Path: "/repo"}}, nil)
	wantHeld(t, "create", err)
	wantGivenUp(t, err)
	w.wantNothing(t)
}

func wantGivenUp(t *testing.T, err error) {
	t.Helper()
	var told *api.Error
	if !errors.As(err, &told) {
		t.Fatal(err)
	}
	if strings.Contains(told.Hint, "goes on") || !strings.Contains(told.Hint, "again") {
		t.Errorf("%v, hint %q", err, told.Hint)
	}
}
