package vmmtest

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guest"
	"banger/internal/procid"
	"banger/internal/vmm"
)

func wantGone(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, vmm.ErrGone) {
		t.Errorf("adopt: got %v, want ErrGone", err)
	}
}

// stored is a handle after a trip through a VM's record.
func stored(t *testing.T, h vmm.Handle) vmm.Handle {
	t.Helper()
	data, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var got vmm.Handle
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	return got
}

func testAdoptAfterClose(t *testing.T, f Fixture) {
	spec := f.NewSpec(t)
	first := start(t, f, spec)
	talk(t, first)
	if err := first.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	second := adopt(t, f, spec, first.Handle())
	if second.Handle() != first.Handle() {
		t.Errorf("handle is %+v after adoption, was %+v", second.Handle(), first.Handle())
	}
	talk(t, second)
	wantRunning(t, second)
	if err := second.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	// A guest that ends while it is adopted tells why.
	third := adopt(t, f, spec, first.Handle())
	if err := guest.NewClient(third.DialGuest).Shutdown(step(t), guest.ShutdownParams{}); err != nil {
		t.Fatal(err)
	}
	awaitDone(t, third)
	wantReason(t, third, "powered off")

	// The end of an adopted VMM is noticed however it comes.
	m := start(t, f, spec)
	if err := m.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	adopted := adopt(t, f, spec, m.Handle())
	if err := unix.Kill(m.Handle().PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitDone(t, adopted)
	_, err := f.Driver.Adopt(step(t), spec, m.Handle())
	wantGone(t, err)
}

func adopt(t *testing.T, f Fixture, spec vmm.Spec, h vmm.Handle) vmm.Machine {
	t.Helper()
	m, err := f.Driver.Adopt(step(t), spec, stored(t, h))
	if err != nil {
		t.Fatalf("adopt: %v", err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

// testAdoptForeign offers pids that belong to somebody else by now. This test
// is a witness: it must survive.
func testAdoptForeign(t *testing.T, f Fixture) {
	spec := f.NewSpec(t)
	own, err := procid.StartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for what, h := range map[string]vmm.Handle{
		"recycled pid": {PID: os.Getpid(), StartTime: own - 1},
		"unused pid":   {PID: 1<<22 + 1, StartTime: own}, // above PID_MAX_LIMIT, proc(5)
		"no pid":       {},
	} {
		h.Driver, h.Accel = f.Driver.Name(), "tcg"
		m, err := f.Driver.Adopt(step(t), spec, h)
		if !errors.Is(err, vmm.ErrGone) {
			t.Errorf("%s: adopt: got %v, %v, want ErrGone", what, m, err)
		}
	}
}

func testStartFails(t *testing.T, f Fixture) {
	spec := f.NewSpec(t)
	f.Break(&spec)
	if m, err := f.Driver.Start(step(t), spec); err == nil {
		t.Fatalf("a broken VM starts: %+v", m.Handle())
	} else {
		t.Logf("as it should: %v", err)
	}
	wantNothingLeft(t, spec)

	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.Driver.Start(cancelled, f.NewSpec(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("start with a cancelled context: %v", err)
	}
	wantNothingLeft(t, spec)
}

// wantNothingLeft checks that neither a process nor a socket is there.
func wantNothingLeft(t *testing.T, spec vmm.Spec) {
	t.Helper()
	if err := waitGone(step(t), spec.RuntimeDir); err != nil {
		t.Error(err)
	}
	err := filepath.WalkDir(spec.RuntimeDir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			t.Errorf("%s was left", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func testTwoShareAnImage(t *testing.T, f Fixture) {
	one, two := start(t, f, f.NewSpec(t)), start(t, f, f.NewSpec(t))
	talk(t, one)
	talk(t, two)
	if err := one.Kill(step(t)); err != nil {
		t.Error(err)
	}
	awaitDone(t, one)
	wantReason(t, one, "killed on request")
	wantRunning(t, two)
	talk(t, two)
	if err := two.Kill(step(t)); err != nil {
		t.Error(err)
	}
}

func testConsoleIsBounded(t *testing.T, f Fixture) {
	spec := f.NewSpec(t)
	m := start(t, f, spec)
	talk(t, m)
	before := consoleSize(t, spec.Console)
	if before == 0 {
		t.Error("the console is empty")
	}
	flood, err := os.OpenFile(spec.Console, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer flood.Close()
	line := make([]byte, 1<<10)
	for i := range line {
		line[i] = 'x'
	}
	for range 6 << 10 { // 6 MiB
		if _, err := flood.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(stepTimeout); consoleSize(t, spec.Console) > 1<<20; {
		if time.Now().After(deadline) {
			t.Fatalf("the console has %d bytes and stays so", consoleSize(t, spec.Console))
		}
		time.Sleep(10 * time.Millisecond)
	}
	if kept := consoleSize(t, vmm.PreviousLog(spec.Console)); kept < 1<<19 || kept > 4<<20 {
		t.Errorf("%d bytes of the cut console were kept", kept)
	}
	if err := m.Kill(step(t)); err != nil {
		t.Error(err)
	}
}

func consoleSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func testDialHeedsContext(t *testing.T, f Fixture) {
	m := start(t, f, f.NewSpec(t))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if conn, err := m.DialGuest(ctx, guest.PortControl); !errors.Is(err, context.Canceled) {
		t.Errorf("dial with a cancelled context: %v, %v", conn, err)
	}
	// A dial that waits for the guest learns of its end.
	waiting := make(chan error, 1)
	go func() {
		for {
			conn, err := m.DialGuest(step(t), guest.PortControl)
			if err != nil {
				waiting <- err
				return
			}
			_ = conn.Close() // the guest has booted already
		}
	}()
	if err := m.Kill(step(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-waiting:
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a dial doesn't notice the VMM's end: %v", err)
		}
	case <-step(t).Done():
		t.Error("a dial goes on after the VMM's end")
	}
}

func testPowerButton(t *testing.T, f Fixture) {
	m := start(t, f, f.NewSpec(t))
	talk(t, m)
	if err := m.PowerOff(step(t)); err != nil {
		t.Fatal(err)
	}
	if !f.PowerButton {
		talk(t, m) // it was pressed, and the guest goes on
		return
	}
	awaitDone(t, m)
	wantReason(t, m, "powered off")
}
