package vm

import (
	"testing"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm/vmmtest"
)

// guests is a world that hands out its guests as they start.
func guests(t *testing.T) (*world, <-chan *vmmtest.VM) {
	t.Helper()
	w, started := newWorld(t), make(chan *vmmtest.VM, 8)
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		started <- vm
		return vmmtest.NewAgent(vm).Serve
	})
	return w, started
}

func (w *world) awaitState(t *testing.T, name string, want api.State) api.VM {
	t.Helper()
	var vm api.VM
	waitFor(t, func() bool {
		var err error
		vm, err = w.Get(t.Context(), name)
		return err == nil && vm.State == want
	})
	return vm
}

// A VM whose guest reboots comes up again, as often as it does.
func TestReboot(t *testing.T) {
	t.Parallel()
	w, started := guests(t)
	before := w.create(t, api.CreateVM{Name: "web"})
	for range 2 {
		(<-started).Reboot()
		waitFor(t, func() bool { return len(started) > 0 })
		now := w.awaitState(t, "web", api.StateRunning)
		if now.ID != before.ID || now.IP != before.IP || !now.StartedAt.After(*before.StartedAt) || now.Reason != "" {
			t.Errorf("got %+v", now)
		}
		before = now
	}
	if _, err := w.Stop(t.Context(), "web", api.StopVM{}, nil); err != nil {
		t.Fatal(err)
	}
	w.awaitState(t, "web", api.StateStopped) // though that is a reset, too
	w.restart(t)
	w.awaitState(t, "web", api.StateStopped)
	if len(started) != 1 {
		t.Errorf("%d guests were started after the last reboot", len(started)-1)
	}
}

// What else ends a guest leaves it stopped, with the reason.
func TestNoReboot(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(w *world, vm *vmmtest.VM)
		reason string
	}{
		"power off": {func(_ *world, vm *vmmtest.VM) { vm.PowerOff() }, "the guest powered off"},
		"panic":     {func(_ *world, vm *vmmtest.VM) { vm.Panic("no") }, "the guest's kernel panicked: no"},
		"while it boots": {func(w *world, vm *vmmtest.VM) {
			w.change(t, vm.Spec.ID, func(r *Record) { r.Stage = StageBooted })
			vm.Reboot()
		}, "the guest rebooted"},
		"before it goes with its session": {func(w *world, vm *vmmtest.VM) {
			w.change(t, vm.Spec.ID, func(r *Record) { r.Doomed = true })
			vm.Reboot()
		}, "the guest rebooted"},
	} {
		t.Run(name, func(t *testing.T) {
			w, started := guests(t)
			w.create(t, api.CreateVM{Name: "web"})
			c.end(w, <-started)
			waitFor(t, func() bool {
				vm, err := w.Get(t.Context(), "web")
				return err == nil && vm.State == api.StateStopped && vm.Reason == c.reason
			})
			w.change(t, w.list(t)[0].ID, func(r *Record) { r.Doomed = false })
			if len(started) > 0 {
				t.Error("it was started again")
			}
		})
	}
}

// bangerd may end just as a guest reboots.
func TestRebootWhileBangerdEnds(t *testing.T) {
	t.Parallel()
	w, started := guests(t)
	w.create(t, api.CreateVM{Name: "web"})
	(<-started).Reboot()
	w.restart(t)
	waitFor(t, func() bool {
		_, _ = w.Start(t.Context(), "web", api.StartVM{}, nil) // unless it runs
		conn, err := w.Dial(t.Context(), "web", guest.PortSSH)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}
