package vm

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm/vmmtest"

	"github.com/google/go-cmp/cmp"
)

// A running VM is read as it is; a stopped one is started for it.
func TestArchive(t *testing.T) {
	w := newWorld(t)
	fail := false
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		agent := vmmtest.NewAgent(vm)
		agent.OnArchive = func(out io.Writer) error {
			if _, err := io.WriteString(out, "the files"); err != nil || !fail {
				return err
			}
			return errors.New("a disk that can't be read")
		}
		return agent.Serve
	})
	w.create(t, api.CreateVM{Name: "web"})
	for _, state := range []api.State{api.StateRunning, api.StateStopped} {
		if state == api.StateStopped {
			if _, err := w.Stop(t.Context(), "web", api.StopVM{}, nil); err != nil {
				t.Fatal(err)
			}
		}
		var got bytes.Buffer
		if err := w.Archive(t.Context(), "web", &got, nil); err != nil || got.String() != "the files" {
			t.Errorf("%s: got %q, %v", state, got.String(), err)
		}
		if vm, err := w.Get(t.Context(), "web"); err != nil || vm.State != state {
			t.Errorf("it was %s and is %s (%v)", state, vm.State, err)
		}
	}
	fail = true
	err := w.Archive(t.Context(), "web", io.Discard, nil)
	var remote *guest.RemoteError
	if !errors.As(err, &remote) {
		t.Errorf("got %v, want the guest's own words", err)
	}
	if vm, err := w.Get(t.Context(), "web"); err != nil || vm.State != api.StateStopped {
		t.Errorf("after a failure it is %s (%v)", vm.State, err)
	}
}

// A guest can send what its image and its disk hold, and holes besides.
func TestArchiveWithoutEnd(t *testing.T) {
	w := newWorld(t)
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		agent := vmmtest.NewAgent(vm)
		agent.OnArchive = func(out io.Writer) error {
			hole, data := make([]byte, 1<<20), bytes.Repeat([]byte("x"), 1<<20)
			for range 300 {
				if _, err := out.Write(hole); err != nil {
					return err
				}
			}
			for {
				if _, err := out.Write(data); err != nil {
					return err
				}
			}
		}
		return agent.Serve
	})
	w.create(t, api.CreateVM{Name: "web"})
	var taken int64
	err := w.Archive(t.Context(), "web", writerFunc(func(p []byte) (int, error) {
		if p[0] != 0 {
			taken += int64(len(p))
		}
		return len(p), nil
	}), nil)
	if !errors.Is(err, api.ErrGuest) || !strings.Contains(err.Error(), "more files than its image and its disk can hold") {
		t.Errorf("got %v", err)
	}
	if disk := w.config.Defaults.DiskBytes; taken < disk || taken > disk*9/8 {
		t.Errorf("%d bytes were taken of a VM with a disk of %d", taken, disk)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestUsers(t *testing.T) {
	w := newWorld(t)
	w.create(t, api.CreateVM{Name: "web"})
	w.create(t, api.CreateVM{Name: "app", Image: "configured", NoStart: true})
	for image, want := range map[string][]string{"small": {"web"}, "configured": {"app"}, "other": nil} {
		if got, err := w.Users(t.Context(), image); err != nil || !cmp.Equal(got, want) {
			t.Errorf("users of %s: %v, %v; want %v", image, got, err, want)
		}
	}
	if got, err := w.KernelUsers(t.Context(), "k"); err != nil || !cmp.Equal(got, []string{"web"}) {
		t.Errorf("users of the kernel: %v, %v", got, err)
	}
}

// What an image's publisher configured is kept with the VM; its variables are
// those of every session, unless the user sets others.
func TestImageConfig(t *testing.T) {
	w := newWorld(t)
	var env map[string]string
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		agent := vmmtest.NewAgent(vm)
		agent.OnBoot = func(c guest.BootConfig) error { env = c.Env; return nil }
		return agent.Serve
	})
	vm := w.create(t, api.CreateVM{Image: "configured", Env: map[string]string{"MODE": "vm"}})
	if vm.Config == nil || vm.Config.User != "app" {
		t.Errorf("config %+v", vm.Config)
	}
	if diff := cmp.Diff(map[string]string{"PATH": "/app/bin", "MODE": "vm"}, env); diff != "" {
		t.Error(diff)
	}
}

// A temporary VM doesn't outlive the bangerd that made it.
func TestTemporary(t *testing.T) {
	for _, req := range []api.CreateVM{{Temporary: true}, {AutoDelete: true}} {
		w := newWorld(t)
		if vm := w.create(t, req); vm.State != api.StateRunning {
			t.Fatalf("it is %s", vm.State)
		}
		w.restart(t)
		w.wantNothing(t)
	}
}

// A VM that was started for its files only is stopped again, also if its guest
// doesn't come up.
func TestArchiveOfSlowGuest(t *testing.T) {
	w := newWorld(t)
	w.create(t, api.CreateVM{Name: "slow", NoStart: true})
	stuck := make(chan struct{})
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve { <-stuck; return vmmtest.NewAgent(vm).Serve })
	defer close(stuck)
	w.config.BootTimeout = 10 * time.Millisecond
	w.restart(t)
	if err := w.Archive(t.Context(), "slow", io.Discard, nil); !errors.Is(err, api.ErrTimeout) {
		t.Errorf("got %v", err)
	}
	if vm, err := w.Get(t.Context(), "slow"); err != nil || vm.State != api.StateStopped {
		t.Errorf("it is %s (%v)", vm.State, err)
	}
}
