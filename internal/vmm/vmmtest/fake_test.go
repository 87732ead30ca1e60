package vmmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger/internal/guest"
	"banger/internal/vmm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var lastID atomic.Int64

func newSpec(image string) func(*testing.T) vmm.Spec {
	return func(t *testing.T) vmm.Spec {
		dir := t.TempDir()
		id := fmt.Sprintf("%012x", lastID.Add(1))
		run := filepath.Join(dir, "run")
		if err := os.Mkdir(run, 0o700); err != nil {
			t.Fatal(err)
		}
		return vmm.Spec{
			ID: id, Name: "test-" + id, StateDir: dir, RuntimeDir: run,
			Console: filepath.Join(dir, "console.log"), VCPUs: 1, MemoryMiB: 64,
			Drives: []vmm.Drive{{ID: "image", Path: image, ReadOnly: true}},
		}
	}
}

func newImage(t *testing.T) string {
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return image
}

func TestFakeConforms(t *testing.T) {
	image := newImage(t)
	Run(t, func(*testing.T) Fixture {
		return Fixture{
			Driver:      NewFake(nil),
			NewSpec:     newSpec(image),
			Break:       func(s *vmm.Spec) { s.Drives[0].Path += ".missing" },
			PowerButton: true,
		}
	})
}

func TestFakeGuestMayBeSlowOrDie(t *testing.T) {
	boot := make(chan struct{})
	fake := NewFake(func(vm *VM) Serve {
		<-boot
		return NewAgent(vm).Serve
	})
	spec := newSpec(newImage(t))(t)
	m := start(t, Fixture{Driver: fake}, spec)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := m.DialGuest(ctx, guest.PortControl); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dial a booting guest: %v", err)
	}
	close(boot)
	talk(t, m)
	fake.VM(spec.ID).Panic("no working init found")
	awaitDone(t, m)
	wantReason(t, m, "panicked: no working init found")
}

func TestFailStart(t *testing.T) {
	fake := NewFake(nil)
	want := errors.New("no memory")
	fake.FailStart(want)
	if _, err := fake.Start(t.Context(), newSpec(newImage(t))(t)); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}
