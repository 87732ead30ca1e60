package vm

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/lockedbuffer"
	"banger/internal/network"
	"banger/internal/vmm"
)

// reason is why a VM is in its state.
func (w *world) reason(t *testing.T, name string) string {
	t.Helper()
	vm, err := w.Get(t.Context(), name)
	if err != nil || vm.State != api.StateRunning {
		t.Errorf("%+v, %v", vm, err)
	}
	return vm.Reason
}

// wantOffline checks that a VM without a network is shown as such, and can be
// reached nevertheless.
func (w *world) wantOffline(t *testing.T, name, why string) {
	t.Helper()
	waitFor(t, func() bool { return strings.Contains(w.reason(t, name), why) })
	for _, words := range []string{"its network is lost", "banger vm restart " + name} {
		if got := w.reason(t, name); !strings.Contains(got, words) {
			t.Errorf("%q isn't in %q", words, got)
		}
	}
	conn, err := w.Dial(t.Context(), name, guest.PortSSH)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

// TestLostNetwork: a VM that has lost its tap is connected to it again, or is
// shown as what it is until that succeeds; whether bangerd runs at the time or
// starts later.
func TestLostNetwork(t *testing.T) {
	w := newWorld(t)
	vm := w.create(t, api.CreateVM{Name: "web"})
	w.create(t, api.CreateVM{Name: "other"})
	tap := network.TapName(vm.ID)
	harm := func() { w.net.closed = map[string]bool{tap: true} }
	succeed := func(got string) error {
		w.net.mu.Lock()
		defer w.net.mu.Unlock()
		delete(w.net.closed, got)
		return nil
	}
	mended := func() bool {
		w.net.mu.Lock()
		defer w.net.mu.Unlock()
		return len(w.net.closed) == 0
	}

	w.driver.OnReattachTap(succeed)
	w.net.harm(harm)
	waitFor(t, mended)
	w.driver.OnReattachTap(func(string) error { return errors.New("no descriptor") })
	w.net.harm(harm)
	w.wantOffline(t, "web", "no descriptor")
	w.restart(t)
	w.wantOffline(t, "web", "no descriptor")
	w.driver.OnReattachTap(succeed)
	w.restart(t)
	if got := w.reason(t, "web"); !mended() || got != "" {
		t.Errorf("after bangerd's start: %v, %q", mended(), got)
	}

	w.net.harm(func() { w.net.fail = errors.New("the host has an interface of that name") })
	w.wantOffline(t, "web", "of that name")
	w.net.harm(func() { w.net.fail = nil })
	waitFor(t, func() bool { return w.reason(t, "web") == "" && w.reason(t, "other") == "" })

	// One that is just ending has lost nothing.
	w.driver.OnReattachTap(func(string) error { return vmm.ErrGone })
	w.net.harm(harm)
	waitFor(t, func() bool { return len(w.net.changes) == 0 })
	if got := w.reason(t, "web"); got != "" {
		t.Errorf("%q", got)
	}
}

// What bangerd couldn't do about the network when it started is done later, and
// leaves VMs alone that have come since.
func TestNetworkIsPutRightLater(t *testing.T) {
	w := newWorld(t)
	web := w.create(t, api.CreateVM{Name: "web"})
	const left = "tap-of-no-vm"
	w.net.taps = append(w.net.taps, left)
	w.net.blind = errors.New("the host is busy")
	w.restart(t)
	w.net.mu.Lock()
	w.net.blind = nil
	w.net.mu.Unlock()
	later := w.create(t, api.CreateVM{Name: "later"})
	w.net.harm(func() {})
	waitFor(t, func() bool { _, taps := w.net.state(); return !slices.Contains(taps, left) })
	if _, taps := w.net.state(); !slices.Contains(taps, network.TapName(web.ID)) || !slices.Contains(taps, network.TapName(later.ID)) {
		t.Errorf("taps: %v", taps)
	}
	waitFor(t, func() bool { return w.reason(t, "web") == "" })
	w.wantWorking(t, "web")
	w.wantWorking(t, "later")
}

// A VM that ends while its tap is looked at has lost nothing, whatever came of that.
func TestMendOfAVMThatEnds(t *testing.T) {
	w := newWorld(t)
	log := &lockedbuffer.Buffer{}
	w.config.Log = slog.New(slog.NewTextHandler(log, nil))
	w.restart(t)
	vm := w.create(t, api.CreateVM{Name: "web"})
	machine := w.slot(vm.ID).inst.machine
	ended := make(chan struct{})
	w.driver.OnReattachTap(func(string) error {
		defer close(ended)
		if err := machine.Kill(t.Context()); err != nil {
			t.Error(err)
		}
		return errors.New("there is no such process")
	})
	w.net.harm(func() { w.net.closed = map[string]bool{network.TapName(vm.ID): true} })
	<-ended
	waitFor(t, func() bool { vm, err := w.Get(t.Context(), "web"); return err == nil && vm.State == api.StateStopped })
	if err := w.Close(); err != nil { // after the look
		t.Error(err)
	}
	if strings.Contains(log.String(), "no network") {
		t.Errorf("logged: %s", log)
	}
	w.restart(t)
}
