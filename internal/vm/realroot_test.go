package vm

import (
	"errors"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm/vmmtest"
)

// TestRealRoot: the guest is told to copy its image, at every start, and the
// disk has to have room for it.
func TestRealRoot(t *testing.T) {
	w := newWorld(t)
	copies := make(chan bool, 1)
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		agent := vmmtest.NewAgent(vm)
		agent.OnBoot = func(c guest.BootConfig) error { copies <- c.RealRoot; return nil }
		return agent.Serve
	})
	if vm := w.create(t, api.CreateVM{Name: "copy", RealRoot: true}); !vm.RealRoot || !<-copies {
		t.Error("the guest makes no copy")
	}
	if w.create(t, api.CreateVM{Name: "other"}); <-copies {
		t.Error("another guest makes a copy")
	}
	large := fakeImages{path: w.config.Images.(fakeImages).path, size: 1 << 30}
	w.config.Images = large
	w.restart(t)
	if _, err := w.Create(t.Context(), api.CreateVM{RealRoot: true}, nil); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("an image that is larger than the disk: %v", err)
	}
}

// TestTimeOutOfARealRoot: what a time-out says is how long was waited.
func TestTimeOutOfARealRoot(t *testing.T) {
	w := newWorld(t)
	w.config.BootTimeout = 25 * time.Millisecond
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		<-never
		return vmmtest.NewAgent(vm).Serve
	})
	w.restart(t)
	_, err := w.Create(t.Context(), api.CreateVM{Name: "slow", RealRoot: true}, nil)
	if !errors.Is(err, api.ErrTimeout) || !strings.Contains(err.Error(), "100ms") {
		t.Errorf("got %v", err)
	}
}
