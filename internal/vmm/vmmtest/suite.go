package vmmtest

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guest"
	"banger/internal/procid"
	"banger/internal/vmm"
)

// Fixture is what the suite needs of a driver under test. Its guests run an
// agent.
type Fixture struct {
	Driver vmm.Driver
	// NewSpec returns a VM of its own: directories and disk are new, and all
	// of them share one read-only drive.
	NewSpec func(*testing.T) vmm.Spec
	// Break changes a spec so that the VMM starts and then fails.
	Break func(*vmm.Spec)
	// PowerButton tells whether the guest heeds it.
	PowerButton bool
}

// stepTimeout bounds each step; an emulated guest on a busy machine may take
// long to boot.
const stepTimeout = 90 * time.Second

// Run checks that a driver does what package vmm says. setUp is called once
// for each test.
func Run(t *testing.T, setUp func(*testing.T) Fixture) {
	tests := map[string]func(*testing.T, Fixture){
		"GuestPowersOff":     testGuestPowersOff,
		"GuestReboots":       testGuestReboots,
		"KilledFromOutside":  testKilledFromOutside,
		"AdoptAfterClose":    testAdoptAfterClose,
		"AdoptForeign":       testAdoptForeign,
		"StartFails":         testStartFails,
		"TwoShareAnImage":    testTwoShareAnImage,
		"ConsoleIsBounded":   testConsoleIsBounded,
		"DialHeedsContext":   testDialHeedsContext,
		"PowerButtonPressed": testPowerButton,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, setUp(t)) })
	}
}

func step(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	t.Cleanup(cancel)
	return ctx
}

// start starts a VM that doesn't outlive the test.
func start(t *testing.T, f Fixture, spec vmm.Spec) vmm.Machine {
	t.Helper()
	m, err := f.Driver.Start(step(t), spec)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	h := m.Handle()
	t.Cleanup(func() {
		// By pid, as the test may have closed the machine.
		if now, err := procid.StartTime(h.PID); err == nil && now == h.StartTime {
			_ = unix.Kill(h.PID, unix.SIGKILL)
		}
		if err := waitGone(step(t), spec.RuntimeDir); err != nil {
			t.Errorf("after the test: %v", err)
		}
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if t.Failed() {
			console, _ := os.ReadFile(spec.Console)
			t.Logf("console of %s:\n%s", spec.Name, console[max(0, len(console)-4096):])
		}
	})
	if h.Driver != f.Driver.Name() || h.PID <= 0 || h.StartTime == 0 || h.Accel == "" {
		t.Errorf("handle is incomplete: %+v", h)
	}
	return m
}

// talk exchanges a message with the guest. One that still boots is asked again.
func talk(t *testing.T, m vmm.Machine) {
	t.Helper()
	ctx, client := step(t), guest.NewClient(m.DialGuest)
	health, err := client.Health(ctx)
	for err != nil {
		select {
		case <-m.Done():
			t.Fatalf("talk to the guest, which has ended (%s): %v", m.ExitReason(), err)
		case <-ctx.Done():
			t.Fatalf("talk to the guest: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		health, err = client.Health(ctx)
	}
	if health.Stage == "" {
		t.Errorf("the guest's answer is empty")
	}
}

func awaitDone(t *testing.T, m vmm.Machine) {
	t.Helper()
	select {
	case <-m.Done():
	case <-step(t).Done():
		t.Fatal("Done was not closed")
	}
}

func wantReason(t *testing.T, m vmm.Machine, want string) {
	t.Helper()
	if got := m.ExitReason(); !strings.Contains(got, want) {
		t.Errorf("exit reason is %q, want one with %q", got, want)
	}
}

func wantRunning(t *testing.T, m vmm.Machine) {
	t.Helper()
	select {
	case <-m.Done():
		t.Fatalf("the VMM has ended: %s", m.ExitReason())
	default:
	}
	if reason := m.ExitReason(); reason != "" {
		t.Errorf("a running VMM has exit reason %q", reason)
	}
}

func testGuestPowersOff(t *testing.T, f Fixture) {
	spec := f.NewSpec(t)
	m := start(t, f, spec)
	talk(t, m)
	wantRunning(t, m)
	if err := guest.NewClient(m.DialGuest).Shutdown(step(t), guest.ShutdownParams{}); err != nil {
		t.Fatal(err)
	}
	awaitDone(t, m)
	wantReason(t, m, "powered off")
	if _, err := m.DialGuest(step(t), guest.PortControl); err == nil {
		t.Error("a guest without a VMM can be dialled")
	}
	_, err := f.Driver.Adopt(step(t), spec, m.Handle())
	wantGone(t, err)
	// The same VM can be started again in the same directories.
	again := start(t, f, spec)
	talk(t, again)
	if err := again.Kill(step(t)); err != nil {
		t.Error(err)
	}
}

func testGuestReboots(t *testing.T, f Fixture) {
	m := start(t, f, f.NewSpec(t))
	conn, err := m.DialGuest(step(t), guest.PortControl)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(`{"call":"shutdown","params":{"reset":true}}` + "\n")); err != nil {
		t.Fatal(err)
	}
	awaitDone(t, m)
	wantReason(t, m, "rebooted")
}

func testKilledFromOutside(t *testing.T, f Fixture) {
	m := start(t, f, f.NewSpec(t))
	talk(t, m)
	conn, err := m.DialGuest(step(t), guest.PortControl)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(m.Handle().PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitDone(t, m)
	wantReason(t, m, "kill")
	wantBroken(t, conn)
	if err := m.Kill(step(t)); err != nil {
		t.Errorf("kill what has ended: %v", err)
	}
}

// wantBroken checks that a connection ends with its VM.
func wantBroken(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(stepTimeout)); err == nil {
		if _, err := conn.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Errorf("a connection to an ended guest goes on: %v", err)
		}
	}
	_ = conn.Close()
}
