package vm

import (
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/vmm"
	"banger/internal/vmm/vmmtest"
)

// interruptedStop is a world with a VM whose stop was written down by a bangerd
// that died before it asked the guest.
func interruptedStop(t *testing.T) (w *world, vm api.VM, asked chan struct{}) {
	t.Helper()
	w, asked, letGo := slowToStop(t)
	close(letGo)
	vm = w.create(t, api.CreateVM{Name: "web"})
	if _, err := w.records.update(t.Context(), vm.ID, func(r *Record) { r.Stopping = true }); err != nil {
		t.Fatal(err)
	}
	return w, vm, asked
}

func (w *world) awaitStopped(t *testing.T, name string) {
	t.Helper()
	waitFor(t, func() bool {
		vm, err := w.Get(t.Context(), name)
		return err == nil && vm.State == api.StateStopped && vm.Reason == ""
	})
}

// A guest that is held when bangerd comes back is stopped once it goes on.
func TestInterruptedStopOfAHeldGuest(t *testing.T) {
	w, vm, asked := interruptedStop(t)
	hold := w.driver.VM(vm.ID).Hold
	hold(vmm.DiskFull)
	w.restart(t)
	if got, err := w.Get(t.Context(), "web"); err != nil || got.State != api.StateStopping || !strings.Contains(got.Reason, vmm.DiskFull) {
		t.Errorf("%+v, %v", got, err)
	}
	wantHeld(t, "stop again", errorOf(w.Stop(t.Context(), "web", api.StopVM{}, nil)))
	hold("")
	<-asked
	w.awaitStopped(t, "web")
}

// A call that has the VM when bangerd finds it, and then leaves it as it is, has no
// stop forgotten.
func TestInterruptedStopWaitsForOtherCalls(t *testing.T) {
	w, vm, _ := interruptedStop(t)
	w.named = func(string) error {
		w.tryReserve(vm.ID, request{operation: opDelete}) // until end
		return nil
	}
	w.restart(t)
	w.end(vm.ID)
	w.awaitStopped(t, "web")
}

// An order that a guest was given just before it was held may be lost.
func TestLostStopOfAHeldGuest(t *testing.T) {
	w := newWorld(t)
	asked, never := make(chan struct{}, 4), make(chan struct{})
	t.Cleanup(func() { close(never) })
	lost := true
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		agent := vmmtest.NewAgent(vm)
		agent.OnShutdown = func() {
			first := lost
			lost = false
			asked <- struct{}{}
			if first {
				<-never
			}
		}
		return agent.Serve
	})
	vm := w.create(t, api.CreateVM{Name: "web"})
	hold := w.driver.VM(vm.ID).Hold
	result := w.stopping(t.Context(), "web")
	<-asked
	hold(vmm.DiskFull)
	wantHeld(t, "stop", <-result)
	for range 3 { // each leaves the stop to what finishes it
		wantHeld(t, "stop again", errorOf(w.Stop(t.Context(), "web", api.StopVM{}, nil)))
	}
	hold("")
	<-asked
	w.awaitStopped(t, "web")
}
