package vm

import (
	"context"
	"errors"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm/vmmtest"
)

// slowToStop is a world whose guests tell when they were asked to shut down, and
// do so when they are let go.
func slowToStop(t *testing.T) (w *world, asked, letGo chan struct{}) {
	t.Helper()
	w, asked, letGo = newWorld(t), make(chan struct{}, 4), make(chan struct{})
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		agent := vmmtest.NewAgent(vm)
		agent.OnShutdown = func() { asked <- struct{}{}; <-letGo }
		return agent.Serve
	})
	return w, asked, letGo
}

// stopping begins a stop; the channel receives how it ended.
func (w *world) stopping(ctx context.Context, name string) <-chan error {
	result := make(chan error, 1)
	go func() { result <- errorOf(w.Stop(ctx, name, api.StopVM{}, nil)) }()
	return result
}

func (w *world) wantStopping(t *testing.T, name string) {
	t.Helper()
	if vm, err := w.Get(t.Context(), name); err != nil || vm.State != api.StateStopping {
		t.Errorf("%+v, %v", vm, err)
	}
	err := errorOf(w.Dial(t.Context(), name, guest.PortSSH))
	if !errors.Is(err, api.ErrConflict) || !strings.Contains(err.Error(), "stopping") || !strings.Contains(api.AsError(err).Hint, "vm stop --force "+name) {
		t.Errorf("dial: %v", err)
	}
}

func TestInterruptedStopIsFinished(t *testing.T) {
	t.Parallel()
	w, asked, letGo := slowToStop(t)
	w.create(t, api.CreateVM{Name: "web"})
	ctx, kill := context.WithCancelCause(t.Context())
	result := w.stopping(ctx, "web")
	<-asked
	kill(errors.New("killed")) // as far as can be played here
	<-result
	w.restart(t)
	w.wantStopping(t, "web")
	<-asked // it was asked again, as the first order may have been lost
	w.wantStopping(t, "web")
	close(letGo)
	waitFor(t, func() bool { vm, err := w.Get(t.Context(), "web"); return err == nil && vm.State == api.StateStopped })
	if vm, err := w.Get(t.Context(), "web"); err != nil || vm.Reason != "" {
		t.Errorf("%+v, %v", vm, err)
	}
}

// A guest that was asked goes down, whoever waits for it.
func TestCancelledStop(t *testing.T) {
	t.Parallel()
	w, asked, letGo := slowToStop(t)
	w.create(t, api.CreateVM{Name: "web"})
	ctx, cancel := context.WithCancel(t.Context())
	result := w.stopping(ctx, "web")
	<-asked
	w.wantStopping(t, "web")
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	w.wantStopping(t, "web")
	close(letGo)
	if vm, err := w.Stop(t.Context(), "web", api.StopVM{}, nil); err == nil && vm.State != api.StateStopped || err != nil && !errors.Is(err, api.ErrConflict) {
		t.Errorf("stop again: %+v, %v", vm, err)
	}
	waitFor(t, func() bool { vm, err := w.Get(t.Context(), "web"); return err == nil && vm.State == api.StateStopped })
}

func TestStopThatWasCancelledBeforeTheGuestKnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, api.CreateVM{Name: "web"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := <-w.stopping(ctx, "web"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	w.create(t, api.CreateVM{Name: "other"})
	w.wantWorking(t, "web")
}

func TestForceTakesThePlaceOfAStop(t *testing.T) {
	for name, force := range map[string]func(w *world) error{
		"stop": func(w *world) error {
			return errorOf(w.Stop(t.Context(), "web", api.StopVM{Force: true}, nil))
		},
		"delete": func(w *world) error { return w.Delete(t.Context(), "web", api.DeleteVM{Force: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			w, asked, letGo := slowToStop(t)
			defer close(letGo)
			w.create(t, api.CreateVM{Name: "web"})
			result := w.stopping(t.Context(), "web")
			<-asked
			if err := force(w); err != nil {
				t.Error(err)
			}
			if err := <-result; err == nil || !strings.Contains(err.Error(), "by force") {
				t.Errorf("the other stop: %v", err)
			}
		})
	}
}
