package vm

import (
	"errors"
	"io"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/vmm/vmmtest"
)

// TestGuestThatGivesUp: what the agent says of an init that won't finish is the
// answer, rather than a time-out.
func TestGuestThatGivesUp(t *testing.T) {
	const why = "the guest's systemd is in its rescue mode"
	for name, req := range map[string]api.CreateVM{
		"kept":      {Name: "web"},
		"temporary": {Name: "web", Temporary: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
				agent := vmmtest.NewAgent(vm)
				agent.NotReady = errors.New(why)
				return agent.Serve
			})
			e := api.AsError(errorOf(w.Create(t.Context(), req, nil)))
			if e.Code != api.CodeGuest || !strings.Contains(e.Msg, why) {
				t.Fatalf("got %+v", e)
			}
			if req.Temporary {
				w.wantNothing(t)
				return
			}
			if e.VM != "web" || !strings.Contains(e.Hint, "banger vm logs web") {
				t.Errorf("the VM isn't named: %+v", e)
			}
			vm, err := w.Get(t.Context(), "web")
			if err != nil || vm.State != api.StateStarting || !strings.Contains(vm.Reason, why) {
				t.Errorf("got %+v, %v", vm, err)
			}
		})
	}
}

// One that was started to read its files is stopped again.
func TestArchiveOfGuestThatGivesUp(t *testing.T) {
	w := newWorld(t)
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		agent := vmmtest.NewAgent(vm)
		agent.NotReady = errors.New("rescue mode")
		return agent.Serve
	})
	w.create(t, api.CreateVM{Name: "web", NoStart: true})
	if err := w.Archive(t.Context(), "web", io.Discard, nil); !errors.Is(err, api.ErrGuest) {
		t.Errorf("got %v", err)
	}
	if vm, err := w.Get(t.Context(), "web"); err != nil || vm.State != api.StateStopped {
		t.Errorf("the VM is %+v, %v", vm, err)
	}
}
