package vm

import (
	"errors"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm"
	"banger/internal/vmm/vmmtest"
)

// wantHeld checks that a call is refused for want of space.
func wantHeld(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), `"web"`) || !strings.Contains(err.Error(), vmm.DiskFull) {
		t.Errorf("%s: %v", what, err)
	}
}

// TestHeldGuest: a guest that its VMM has stopped is shown as such, and whoever
// wants something of it is told why.
func TestHeldGuest(t *testing.T) {
	w := newWorld(t)
	vm := w.create(t, api.CreateVM{Name: "web"})
	hold := w.driver.VM(vm.ID).Hold
	hold(vmm.DiskFull)
	if got, err := w.Get(t.Context(), "web"); err != nil || got.State != api.StatePaused || !strings.Contains(got.Reason, vmm.DiskFull) || got.PID == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	wantHeld(t, "dial", errorOf(w.Dial(t.Context(), "web", guest.PortSSH)))
	wantHeld(t, "stop", errorOf(w.Stop(t.Context(), "web", api.StopVM{}, nil)))
	if _, err := w.Start(t.Context(), "web", api.StartVM{}, nil); !errors.Is(err, api.ErrConflict) {
		t.Errorf("start: %v", err)
	}
	hold("")
	if got, err := w.Get(t.Context(), "web"); err != nil || got.State != api.StateRunning || got.Reason != "" {
		t.Errorf("%+v, %v", got, err)
	}
	conn, err := w.Dial(t.Context(), "web", guest.PortSSH)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	hold(vmm.DiskFull)
	if got, err := w.Stop(t.Context(), "web", api.StopVM{Force: true}, nil); err != nil || got.State != api.StateStopped {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestHeldWhileWaitedFor: it may be stopped while a call waits for it.
func TestHeldWhileWaitedFor(t *testing.T) {
	w := newWorld(t)
	var boots []func(string)
	booting := make(chan struct{}, 2)
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		boots = append(boots, vm.Hold)
		booting <- struct{}{}
		<-never
		return vmmtest.NewAgent(vm).Serve
	})
	created := make(chan error, 1)
	go func() { created <- errorOf(w.Create(t.Context(), api.CreateVM{Name: "web"}, nil)) }()
	<-booting
	dialled := make(chan error, 1)
	waitFor(t, func() bool { _, err := w.Get(t.Context(), "web"); return err == nil })
	go func() { dialled <- errorOf(w.Dial(t.Context(), "web", guest.PortSSH)) }()
	boots[0](vmm.DiskFull)
	err := <-created
	wantHeld(t, "create", err)
	wantGivenUp(t, err)
	if err := <-dialled; err == nil {
		t.Error("there was an answer")
	}
	w.wantNothing(t)
}
