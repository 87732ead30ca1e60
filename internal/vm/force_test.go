package vm

import (
	"context"
	"testing"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm/vmmtest"
)

// stuckAt is a world whose guests hang at a point of their boot until the test
// ends, and tell when they are there.
func stuckAt(t *testing.T, point string) (w *world, there chan struct{}) {
	t.Helper()
	w, there = newWorld(t), make(chan struct{}, 4)
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	wait := func() { there <- struct{}{}; <-end }
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		agent := vmmtest.NewAgent(vm)
		switch point {
		case "boot":
			agent.OnBoot = func(guest.BootConfig) error { wait(); return nil }
		case "ready":
			agent.OnReady = wait
		}
		return agent.Serve
	})
	return w, there
}

// force ends the VM "web" by force.
func (w *world) force(t *testing.T, how string) {
	t.Helper()
	if how == "delete" {
		if err := w.Delete(t.Context(), "web", api.DeleteVM{Force: true}); err != nil {
			t.Errorf("delete by force: %v", err)
		}
		return
	}
	vm, err := w.Stop(t.Context(), "web", api.StopVM{Force: true}, nil)
	if err != nil || vm.Name != "web" || vm.State != api.StateStopped {
		t.Errorf("stop by force: %+v, %v", vm, err)
	}
}

func wantForced(t *testing.T, result <-chan error) {
	t.Helper()
	if err := <-result; err == nil || api.AsError(err).Msg != errForced.Msg {
		t.Errorf("the call that was cut short: %v", err)
	}
}

func TestForceCutsACreateShort(t *testing.T) {
	for _, how := range []string{"stop", "delete"} {
		for _, point := range []string{"boot", "ready"} {
			t.Run(how+" at "+point, func(t *testing.T) {
				w, there := stuckAt(t, point)
				result := make(chan error, 1)
				go func() { result <- errorOf(w.Create(context.Background(), api.CreateVM{Name: "web"}, nil)) }()
				<-there
				w.force(t, how)
				wantForced(t, result)
				// A VM that has all it needs stays when it is only stopped.
				if how == "stop" && point == "ready" {
					if vm, err := w.Get(t.Context(), "web"); err != nil || vm.State != api.StateStopped {
						t.Errorf("the VM is %+v, %v", vm, err)
					}
					return
				}
				w.wantNothing(t)
			})
		}
	}
}

func TestForceCutsAStartShort(t *testing.T) {
	for _, how := range []string{"stop", "delete"} {
		for _, point := range []string{"boot", "ready"} {
			t.Run(how+" at "+point, func(t *testing.T) {
				w, there := stuckAt(t, point)
				w.create(t, api.CreateVM{Name: "web", NoStart: true})
				result := make(chan error, 1)
				go func() { result <- errorOf(w.Start(context.Background(), "web", api.StartVM{}, nil)) }()
				<-there
				w.force(t, how)
				wantForced(t, result)
				if how == "delete" {
					w.wantNothing(t)
					return
				}
				if up, taps := w.net.state(); up || len(taps) > 0 {
					t.Errorf("the network is up: %v, with taps %v", up, taps)
				}
			})
		}
	}
}
