package vm

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/network"
	"banger/internal/procid"
	"banger/internal/vmm"
)

// obstacles are the ways in which a VMM that runs can be out of reach when
// bangerd starts. Each returns what takes the obstacle away.
func obstacles() map[string]func(w *world, id string) func() {
	return map[string]func(w *world, id string) func(){
		"it doesn't answer": func(w *world, id string) func() {
			answers := make(chan struct{})
			w.driver.OnAdopt(func(ctx context.Context, spec vmm.Spec) error {
				if spec.ID != id {
					return nil
				}
				select {
				case <-answers:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			return func() { close(answers) }
		},
		"it refuses": func(w *world, id string) func() {
			w.driver.OnAdopt(func(_ context.Context, spec vmm.Spec) error {
				if spec.ID == id {
					return errors.New("connection refused")
				}
				return nil
			})
			return func() { w.driver.OnAdopt(nil) }
		},
		"its driver is unknown": func(w *world, id string) func() {
			w.mustChange(id, func(r *Record) { r.Handle.Driver = "other" })
			w.named = func(name string) error {
				if name == "other" {
					return errors.New("no driver is named other")
				}
				return nil
			}
			return func() { w.mustChange(id, func(r *Record) { r.Handle.Driver = w.driver.Name() }) }
		},
	}
}

// mustChange is change where there is no test at hand.
func (w *world) mustChange(id string, change func(*Record)) {
	if _, err := w.records.update(context.Background(), id, change); err != nil {
		panic(err)
	}
}

// wantUnknown checks that a VM which can't be reached is shown as such, that it
// has kept what it had, and that another one works.
func (w *world) wantUnknown(t *testing.T, before api.VM) {
	t.Helper()
	vm, err := w.Get(t.Context(), before.Name)
	if err != nil || vm.State != api.StateUnknown || vm.Reason == "" || vm.IP != before.IP || vm.ID != before.ID {
		t.Errorf("%+v, %v", vm, err)
	}
	if up, taps := w.net.state(); !up || !slices.Contains(taps, network.TapName(before.ID)) {
		t.Errorf("the network is up: %v, with taps %v", up, taps)
	}
	if _, err := procid.StartTime(before.PID); err != nil {
		t.Errorf("its VMM: %v", err)
	}
	for what, err := range map[string]error{
		"start":  errorOf(w.Start(t.Context(), before.Name, api.StartVM{}, nil)),
		"stop":   errorOf(w.Stop(t.Context(), before.Name, api.StopVM{}, nil)),
		"delete": w.Delete(t.Context(), before.Name, api.DeleteVM{}),
		"dial":   errorOf(w.Dial(t.Context(), before.Name, guest.PortSSH)),
	} {
		if e := api.AsError(err); e.Code != api.CodeConflict || !strings.Contains(e.Hint, "--force") {
			t.Errorf("%s: %v, hint %q", what, err, e.Hint)
		}
	}
	w.wantWorking(t, "other")
}

func errorOf[T any](_ T, err error) error { return err }

func (w *world) wantWorking(t *testing.T, name string) {
	t.Helper()
	if vm, err := w.Get(t.Context(), name); err != nil || vm.State != api.StateRunning {
		t.Errorf("%s: %+v, %v", name, vm, err)
	}
	conn, err := w.Dial(t.Context(), name, guest.PortSSH)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	conn.Close()
}

func TestUnreachableVMIsKeptAndAdoptedLater(t *testing.T) {
	for name, put := range obstacles() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			vm := w.create(t, api.CreateVM{Name: "web"})
			w.create(t, api.CreateVM{Name: "other"})
			takeAway := put(w, vm.ID)
			w.restart(t)
			w.wantUnknown(t, vm)
			takeAway()
			waitFor(t, func() bool { vm, err := w.Get(t.Context(), "web"); return err == nil && vm.State == api.StateRunning })
			w.wantWorking(t, "web")
			if _, taps := w.net.state(); len(taps) != 2 {
				t.Errorf("taps: %v", taps)
			}
		})
	}
}

func TestUnreachableVMCanBeForced(t *testing.T) {
	for name, put := range obstacles() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			stopped := w.create(t, api.CreateVM{Name: "web"})
			w.create(t, api.CreateVM{Name: "other"})
			put(w, stopped.ID)
			w.restart(t)
			vm, err := w.Stop(t.Context(), "web", api.StopVM{Force: true}, nil)
			if err != nil || vm.State != api.StateStopped {
				t.Errorf("stop: %+v, %v", vm, err)
			}
			if _, err := procid.StartTime(stopped.PID); !errors.Is(err, vmm.ErrGone) {
				t.Errorf("its VMM: %v", err)
			}
			if _, taps := w.net.state(); len(taps) != 1 {
				t.Errorf("after the stop there are taps %v", taps)
			}
			started, err := w.Start(t.Context(), "web", api.StartVM{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			put(w, stopped.ID)
			w.restart(t)
			if err := w.Delete(t.Context(), "web", api.DeleteVM{Force: true}); err != nil {
				t.Error(err)
			}
			if _, err := procid.StartTime(started.PID); !errors.Is(err, vmm.ErrGone) {
				t.Errorf("its VMM: %v", err)
			}
			w.wantWorking(t, "other")
			if err := w.Delete(t.Context(), "other", api.DeleteVM{Force: true}); err != nil {
				t.Error(err)
			}
			w.wantNothing(t)
		})
	}
}

// The search for a VM goes on if whoever took it over gave up.
func TestSearchGoesOnAfterAForcedStopThatWasCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	vm := w.create(t, api.CreateVM{Name: "web"})
	letGo := make(chan struct{})
	w.driver.OnAdopt(func(context.Context, vmm.Spec) error {
		<-letGo // whatever the context says
		return errors.New("too late")
	})
	w.restart(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := w.Stop(ctx, "web", api.StopVM{Force: true}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	w.driver.OnAdopt(nil)
	close(letGo)
	waitFor(t, func() bool { vm, err := w.Get(t.Context(), "web"); return err == nil && vm.State == api.StateRunning })
	w.wantWorking(t, "web")
	if vm, err := w.Stop(t.Context(), vm.ID, api.StopVM{Force: true}, nil); err != nil || vm.State != api.StateStopped {
		t.Errorf("%+v, %v", vm, err)
	}
}

func TestUnreachableVMThatEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	vm := w.create(t, api.CreateVM{Name: "web"})
	w.driver.OnAdopt(func(context.Context, vmm.Spec) error { return errors.New("connection refused") })
	w.restart(t)
	if err := unix.Kill(vm.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		vm, err := w.Get(t.Context(), "web")
		return err == nil && vm.State == api.StateStopped && vm.Reason != ""
	})
	if up, taps := w.net.state(); up || len(taps) > 0 {
		t.Errorf("the network is up: %v, with taps %v", up, taps)
	}
}

// A VM that was to go away, as one of an interrupted create, does so whether its
// VMM answers or not.
func TestUnreachableDoomedVM(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	vm := w.create(t, api.CreateVM{Name: "web"})
	w.change(t, vm.ID, func(r *Record) { r.Doomed = true })
	w.driver.OnAdopt(func(context.Context, vmm.Spec) error { return errors.New("connection refused") })
	w.restart(t)
	waitFor(t, func() bool { return len(w.list(t)) == 0 })
	w.wantNothing(t)
}

// A process that has the pid and the start time of a VMM of the host's last boot
// isn't that VMM.
func TestStrangerWithTheHandleOfAVMM(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.create(t, api.CreateVM{Name: "other"})
	vm := w.create(t, api.CreateVM{Name: "web"})
	w.Close()
	if err := unix.Kill(vm.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	start, err := procid.StartTime(other.PID)
	if err != nil {
		t.Fatal(err)
	}
	w.change(t, vm.ID, func(r *Record) { r.Handle.PID, r.Handle.StartTime = other.PID, start })
	w.driver.OnAdopt(func(_ context.Context, spec vmm.Spec) error {
		if spec.ID == vm.ID {
			return errors.New("there is no socket")
		}
		return nil
	})
	w.restart(t)
	if vm, err := w.Get(t.Context(), "web"); err != nil || vm.State != api.StateStopped {
		t.Errorf("%+v, %v", vm, err)
	}
	w.change(t, vm.ID, func(r *Record) {
		r.Stage, r.Handle = StageReady, &vmm.Handle{Driver: w.driver.Name(), PID: other.PID, StartTime: start}
		r.Doomed = true
	})
	w.restart(t)
	w.wantWorking(t, "other")
}

func TestDamagedRecord(t *testing.T) {
	for name, record := range map[string]string{
		"no JSON":          "{",
		"empty":            "",
		"nothing in it":    "{}",
		"a wrong type":     `{"ID": 7}`,
		"a wrong address":  `{"IP": "nonsense"}`,
		"another VM's":     "", // taken from that one
		"an array":         "[]",
		"a null":           "null",
		"another's handle": `{"ID": "", "Name": "", "Handle": {"pid": 1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			vm := w.create(t, api.CreateVM{Name: "web"})
			other := w.create(t, api.CreateVM{Name: "other"})
			query, args := "UPDATE vms SET record = ?1 WHERE id = ?2", []any{record, vm.ID}
			if name == "another VM's" {
				query, args = "UPDATE vms SET record = (SELECT record FROM vms WHERE id = ?1) WHERE id = ?2", []any{other.ID, vm.ID}
			}
			if _, err := w.config.DB.ExecContext(t.Context(), query, args...); err != nil {
				t.Fatal(err)
			}
			w.restart(t)
			w.wantUnknown(t, vm)
			if err := w.Delete(t.Context(), "web", api.DeleteVM{Force: true}); err != nil {
				t.Fatal(err)
			}
			if _, err := procid.StartTime(vm.PID); !errors.Is(err, vmm.ErrGone) {
				t.Errorf("its VMM: %v", err)
			}
			w.wantWorking(t, "other")
			if err := w.Delete(t.Context(), "other", api.DeleteVM{Force: true}); err != nil {
				t.Error(err)
			}
			w.wantNothing(t)
		})
	}
}

// A VM that was stopped while its network became another one gets an address
// there, and DNS knows it.
func TestNewNetworkGivesNewAddresses(t *testing.T) {
	w := newWorld(t)
	before := w.create(t, api.CreateVM{Name: "web"})
	if _, err := w.Stop(t.Context(), "web", api.StopVM{}, nil); err != nil {
		t.Fatal(err)
	}
	w.net.subnet = netip.MustParsePrefix("172.16.1.0/29")
	taken := w.create(t, api.CreateVM{Name: "other"})
	if taken.IP != "172.16.1.2" {
		t.Errorf("a new VM has %s", taken.IP)
	}
	after, err := w.Start(t.Context(), "web", api.StartVM{}, nil)
	if err != nil || after.IP != "172.16.1.3" || after.MAC == before.MAC {
		t.Fatalf("%+v, %v", after, err)
	}
	w.wantName(t, "web", after.IP)
	if _, ok := w.ReverseLookup(netip.MustParseAddr(before.IP)); ok {
		t.Error("DNS knows the old address")
	}
	if w.net.guarded[network.TapName(after.ID)].String() != after.IP {
		t.Errorf("its tap is guarded for %v", w.net.guarded)
	}
	w.restart(t)
	w.wantName(t, "web", after.IP)
	if _, err := w.Stop(t.Context(), "web", api.StopVM{}, nil); err != nil {
		t.Fatal(err)
	}
	if again, err := w.Start(t.Context(), "web", api.StartVM{}, nil); err != nil || again.IP != after.IP {
		t.Errorf("%+v, %v", again, err)
	}
}

// A copy of a state directory says nothing of what runs.
func TestCopiedRecords(t *testing.T) {
	w := newWorld(t)
	vm := w.create(t, api.CreateVM{Name: "web", AutoDelete: true})
	keep := w.create(t, api.CreateVM{Name: "keep"})
	original := w.Manager
	w.config.Copied = true
	w.Manager = New(w.config)
	if err := w.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{vm.PID, keep.PID} {
		if _, err := procid.StartTime(pid); err != nil {
			t.Errorf("a VMM of the original: %v", err)
		}
	}
	if got, err := w.Get(t.Context(), "keep"); err != nil || got.State != api.StateStopped || got.Reason == "" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, id := range []string{vm.ID, keep.ID} { // which the original would end
		original.mu.Lock()
		machine := original.slots[id].inst.machine
		original.mu.Unlock()
		if err := machine.Kill(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
