package vm

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/image"
	"banger/internal/kernel"
	"banger/internal/network"
	"banger/internal/paths"
	"banger/internal/procid"
	"banger/internal/sshkey"
	"banger/internal/store"
	"banger/internal/vmm"
	"banger/internal/vmm/vmmtest"
)

// world is a Manager with everything around it simulated, and able to go
// through restarts of bangerd.
type world struct {
	*Manager
	config Config
	driver *vmmtest.Fake
	net    *fakeNetwork
	named  func(string) error // fails Drivers.Named; may be nil
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	layout := paths.Layout{
		Config: filepath.Join(dir, "config"), State: filepath.Join(dir, "state"), Data: filepath.Join(dir, "share"),
		Cache: filepath.Join(dir, "cache"), Runtime: filepath.Join(dir, "run"),
	}
	if err := layout.Create(); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), layout.Database(), Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	key, err := sshkey.Generate("test")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{driver: vmmtest.NewFake(nil), net: &fakeNetwork{changes: make(chan struct{}, 1)}}
	drive := filepath.Join(dir, "drive")
	if err := os.WriteFile(drive, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.config = Config{
		Layout:      layout,
		DB:          db,
		Images:      fakeImages{path: drive},
		Kernels:     fakeKernels{drive},
		Initramfs:   func(kernel.Kernel) (string, error) { return drive, nil },
		Network:     w.net,
		Drivers:     w,
		Inspect:     func(context.Context, api.Workspace) (Workspace, error) { return fakeWorkspace{}, nil },
		InspectCopy: func(_ context.Context, c api.Copy) (Workspace, error) { return fakeCopy{c}, nil },
		UserKey:     key,
		Credentials: func() Credentials { return Credentials{} },
		Defaults:    Defaults{Image: "small", Shape: api.Shape{VCPUs: 1, MemoryMiB: 256, DiskBytes: 256 << 20}},
		BootTimeout: time.Minute,
		Log:         slog.New(slog.DiscardHandler),
	}
	w.restart(t)
	t.Cleanup(func() {
		for _, vm := range w.list(t) {
			if err := w.Delete(context.Background(), vm.Name, api.DeleteVM{Force: true}); err != nil {
				t.Error(err)
			}
		}
		w.Close()
	})
	return w
}

// restart stands for a new bangerd in the place of one that was killed.
func (w *world) restart(t *testing.T) {
	t.Helper()
	if w.Manager != nil {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w.Manager = New(w.config)
	if err := w.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (w *world) Choose(context.Context, kernel.Kernel, bool) (Choice, error) {
	return Choice{Driver: w.driver, Why: "a test"}, nil
}

func (w *world) Named(name string) (vmm.Driver, error) {
	if w.named != nil {
		if err := w.named(name); err != nil {
			return nil, err
		}
	}
	return w.driver, nil
}

func (w *world) list(t *testing.T) []api.VM {
	t.Helper()
	vms, err := w.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return vms
}

func (w *world) create(t *testing.T, req api.CreateVM) api.VM {
	t.Helper()
	vm, err := w.Create(t.Context(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// wantNothing fails if there is anything left of any VM.
func (w *world) wantNothing(t *testing.T) {
	t.Helper()
	if vms := w.list(t); len(vms) > 0 {
		t.Errorf("VMs are left: %v", vms)
	}
	for _, dir := range []string{w.config.Layout.VMsDir(), w.config.Layout.VMsRuntimeDir()} {
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			t.Errorf("%s has %v", dir, entries)
		}
	}
	if up, taps := w.net.state(); up || len(taps) > 0 {
		t.Errorf("the network is up: %v, with taps %v", up, taps)
	}
}

type fakeImages struct {
	path string
	size int64
}

func (f fakeImages) Use(_ context.Context, name string, _ api.ProgressFunc) (image.Image, func(), error) {
	img := image.Image{Name: name, Kernel: "k", Rootfs: f.path, SizeBytes: f.size}
	switch name {
	case "small":
	case "configured":
		img.Config = &api.ImageConfig{Env: []string{"PATH=/app/bin", "MODE=image", "=broken"}, User: "app"}
	default:
		return image.Image{}, nil, api.Errorf(api.CodeNotFound, "there is no image %q", name)
	}
	return img, func() {}, nil
}

type fakeKernels struct{ path string }

func (f fakeKernels) Use(_ context.Context, name string, _ api.ProgressFunc) (kernel.Kernel, func(), error) {
	return kernel.Kernel{Name: name, Vmlinux: f.path, ModulesImage: f.path}, func() {}, nil
}

type fakeWorkspace struct{}

func (fakeWorkspace) Info() api.WorkspaceInfo {
	return api.WorkspaceInfo{HostPath: "/repo", GuestPath: "/root/repo"}
}

// Push reports its progress itself, as the real one does.
func (fakeWorkspace) Push(_ context.Context, _ func(context.Context, string, io.Reader) error, progress api.ProgressFunc) error {
	progress.Report(api.Progress{Phase: "workspace", Title: "copying /repo"})
	progress.Report(api.Progress{Phase: "workspace", Title: "copying /repo", Finished: true, Millis: 1})
	return nil
}

func TestLifecycle(t *testing.T) {
	w := newWorld(t)
	vm := w.create(t, api.CreateVM{Name: "web"})
	if vm.State != api.StateRunning || vm.PID == 0 || vm.IP != "172.16.0.2" {
		t.Fatalf("after create: %+v", vm)
	}
	if _, err := w.Start(t.Context(), "web", api.StartVM{}, nil); !errors.Is(err, api.ErrConflict) {
		t.Errorf("start of a running VM: %v", err)
	}
	if err := w.Delete(t.Context(), "web", api.DeleteVM{}); !errors.Is(err, api.ErrConflict) {
		t.Errorf("delete of a running VM: %v", err)
	}
	vm, err := w.Stop(t.Context(), "web", api.StopVM{}, nil)
	if err != nil || vm.State != api.StateStopped || vm.Reason != "" {
		t.Fatalf("after stop: %+v, %v", vm, err)
	}
	if up, taps := w.net.state(); up || len(taps) > 0 {
		t.Errorf("a stopped VM keeps the network up: %v, %v", up, taps)
	}
	if _, err := w.Stop(t.Context(), "web", api.StopVM{}, nil); !errors.Is(err, api.ErrConflict) {
		t.Errorf("stop of a stopped VM: %v", err)
	}
	if vm, err = w.Start(t.Context(), "web", api.StartVM{}, nil); err != nil || vm.State != api.StateRunning {
		t.Fatalf("after start: %+v, %v", vm, err)
	}
	if err := w.Delete(t.Context(), vm.ID, api.DeleteVM{Force: true}); err != nil {
		t.Fatal(err)
	}
	w.wantNothing(t)
}

func TestRefusedRequestsLeaveNothing(t *testing.T) {
	tests := []struct {
		name string
		req  api.CreateVM
		want error
	}{
		{"name", api.CreateVM{Name: "No_Name"}, api.ErrInvalid},
		{"name like an id", api.CreateVM{Name: "0123456789ab"}, api.ErrInvalid},
		{"image", api.CreateVM{Image: "nonesuch"}, api.ErrNotFound},
		{"memory", api.CreateVM{Shape: api.Shape{MemoryMiB: 1}}, api.ErrInvalid},
		{"huge memory", api.CreateVM{Shape: api.Shape{MemoryMiB: 1 << 30}}, api.ErrInvalid},
		{"vcpus", api.CreateVM{Shape: api.Shape{VCPUs: 1000}}, api.ErrInvalid},
		{"disk", api.CreateVM{Shape: api.Shape{DiskBytes: 1}}, api.ErrInvalid},
		{"host port", api.CreateVM{HostPorts: []uint16{53}}, api.ErrInvalid},
		{"host ports", api.CreateVM{HostPorts: make([]uint16, 65)}, api.ErrInvalid},
		{"env", api.CreateVM{Env: map[string]string{"a b": ""}}, api.ErrInvalid},
	}
	w := newWorld(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := w.Create(t.Context(), tt.req, nil); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			w.wantNothing(t)
		})
	}
}

// TestCreateReportsEachPhaseOnce: a phase's beginning and its end are told once,
// whoever does so.
func TestCreateReportsEachPhaseOnce(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	ends := make(map[string]int)
	_, err := w.Create(t.Context(), api.CreateVM{Workspace: &api.Workspace{}}, func(p api.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if p.Finished {
			ends[p.Phase]++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for phase, n := range ends {
		if n != 1 {
			t.Errorf("phase %s ends %d times", phase, n)
		}
	}
	if ends["workspace"] == 0 || ends["disk"] == 0 {
		t.Errorf("phases that ended: %v", ends)
	}
}

func TestFailedCreateIsTakenBack(t *testing.T) {
	boom := errors.New("boom")
	tests := []struct {
		name     string
		sabotage func(w *world)
	}{
		{"tap", func(w *world) { w.net.fail = boom }},
		{"VMM", func(w *world) { w.driver.FailStart(boom) }},
		{"workspace", func(w *world) {
			w.config.Inspect = func(context.Context, api.Workspace) (Workspace, error) { return failingWorkspace{err: boom}, nil }
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.sabotage(w)
			w.restart(t)
			_, err := w.Create(t.Context(), api.CreateVM{Workspace: &api.Workspace{}}, nil)
			if err == nil || !strings.Contains(err.Error(), "boom") {
				t.Errorf("got %v, want boom", err)
			}
			w.wantNothing(t)
		})
	}
}

type failingWorkspace struct {
	fakeWorkspace
	err error
}

func (f failingWorkspace) Push(context.Context, func(context.Context, string, io.Reader) error, api.ProgressFunc) error {
	return f.err
}

func TestCancelledCreateIsTakenBack(t *testing.T) {
	w := newWorld(t)
	stuck := make(chan struct{})
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve { <-stuck; return vmmtest.NewAgent(vm).Serve })
	defer close(stuck)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := w.Create(ctx, api.CreateVM{Name: "web"}, nil)
		result <- err
	}()
	waitFor(t, func() bool { vm, err := w.Get(context.Background(), "web"); return err == nil && vm.PID != 0 })
	if err := w.Delete(t.Context(), "web", api.DeleteVM{}); !errors.Is(err, api.ErrConflict) {
		t.Errorf("delete during a create: %v", err)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want cancelled", err)
	}
	w.wantNothing(t)
}

func TestTimeoutKeepsTheVM(t *testing.T) {
	w := newWorld(t)
	stuck := make(chan struct{})
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve { <-stuck; return vmmtest.NewAgent(vm).Serve })
	defer close(stuck)
	w.config.BootTimeout = 10 * time.Millisecond
	w.restart(t)
	_, err := w.Create(t.Context(), api.CreateVM{Name: "slow", AutoDelete: true}, nil)
	e := api.AsError(err)
	if e.Code != api.CodeTimeout || e.VM != "slow" || !strings.Contains(e.Hint, "banger vm logs slow") {
		t.Fatalf("got %+v", e)
	}
	vm, err := w.Get(t.Context(), "slow")
	if err != nil || vm.State != api.StateStarting {
		t.Fatalf("got %+v, %v", vm, err)
	}
	w.restart(t) // it never got its configuration, so a new bangerd ends it
	if vm, err = w.Get(t.Context(), "slow"); err != nil || vm.State != api.StateStopped {
		t.Errorf("after a restart: %+v, %v", vm, err)
	}
}

func TestGuestThatDiesEarlyIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	boots := 0
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		if boots++; boots == 1 {
			vm.Panic("test")
			return hangUp
		}
		return vmmtest.NewAgent(vm).Serve
	})
	if vm := w.create(t, api.CreateVM{Name: "web"}); vm.State != api.StateRunning || boots != 2 {
		t.Errorf("%+v after %d boots", vm, boots)
	}
}

// hangUp is a guest without an agent.
func hangUp(_ uint32, conn net.Conn) { conn.Close() }

func TestGuestThatAlwaysDies(t *testing.T) {
	w := newWorld(t)
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		vm.Panic("test")
		return hangUp
	})
	if _, err := w.Create(t.Context(), api.CreateVM{}, nil); !errors.Is(err, api.ErrGuest) || !strings.Contains(err.Error(), "panic") {
		t.Errorf("got %v", err)
	}
	w.wantNothing(t)
}

func TestRestartAdopts(t *testing.T) {
	w := newWorld(t)
	before := w.create(t, api.CreateVM{Name: "web"})
	tap := network.TapName(before.ID)
	delete(w.net.guarded, tap) // as an older bangerd left it
	w.restart(t)
	if addr := w.net.guarded[tap]; addr.String() != before.IP {
		t.Errorf("the adopted VM's tap is guarded for %s, want %s", addr, before.IP)
	}
	after, err := w.Get(t.Context(), "web")
	if err != nil || after.State != api.StateRunning || after.PID != before.PID {
		t.Fatalf("after a restart: %+v, %v", after, err)
	}
	conn, err := w.Dial(t.Context(), "web", guest.PortControl)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestKilledVMM(t *testing.T) {
	for _, daemon := range []string{"alive", "dead"} {
		t.Run("daemon "+daemon, func(t *testing.T) {
			w := newWorld(t)
			vm := w.create(t, api.CreateVM{Name: "web"})
			if daemon == "dead" {
				w.Close()
			}
			if err := unix.Kill(vm.PID, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if daemon == "dead" {
				waitFor(t, func() bool { _, err := procid.StartTime(vm.PID); return errors.Is(err, vmm.ErrGone) })
				w.restart(t)
			}
			stopped := func() bool {
				vm, err := w.Get(t.Context(), "web")
				return err == nil && vm.State == api.StateStopped && vm.Reason != ""
			}
			waitFor(t, stopped)
			waitFor(t, func() bool { up, taps := w.net.state(); return !up && len(taps) == 0 })
			if vm, err := w.Start(t.Context(), "web", api.StartVM{}, nil); err != nil || vm.State != api.StateRunning {
				t.Errorf("start again: %+v, %v", vm, err)
			}
		})
	}
}

// TestInterruptedWork plays bangerd's death at the points where records and
// reality disagree.
func TestInterruptedWork(t *testing.T) {
	t.Run("create", func(t *testing.T) {
		w := newWorld(t)
		vm := w.create(t, api.CreateVM{Name: "web"})
		w.change(t, vm.ID, func(r *Record) { r.Doomed = true })
		w.restart(t)
		w.wantNothing(t)
	})
	t.Run("start, before the handle was stored", func(t *testing.T) {
		w := newWorld(t)
		vm := w.create(t, api.CreateVM{Name: "web"})
		w.change(t, vm.ID, func(r *Record) { r.Handle, r.Stage = nil, StageLaunching })
		w.restart(t)
		if _, err := procid.StartTime(vm.PID); !errors.Is(err, vmm.ErrGone) {
			t.Errorf("the orphaned VMM still runs: %v", err)
		}
		if got, err := w.Get(t.Context(), "web"); err != nil || got.State != api.StateStopped {
			t.Errorf("got %+v, %v", got, err)
		}
		if up, taps := w.net.state(); up || len(taps) > 0 {
			t.Errorf("the network is up: %v, with taps %v", up, taps)
		}
	})
	t.Run("a tap without a VM", func(t *testing.T) {
		w := newWorld(t)
		w.net.up, w.net.taps = true, []string{"bgr-stray"}
		w.restart(t)
		w.wantNothing(t)
	})
}

func (w *world) change(t *testing.T, id string, change func(*Record)) {
	t.Helper()
	if _, err := w.records.update(t.Context(), id, change); err != nil {
		t.Fatal(err)
	}
}

func TestAddressesRunOut(t *testing.T) {
	w := newWorld(t) // a /29 has five addresses for VMs
	seen := map[string]bool{}
	for range 5 {
		vm := w.create(t, api.CreateVM{NoStart: true})
		if seen[vm.IP] || seen[vm.Name] {
			t.Errorf("given twice: %s or %s", vm.IP, vm.Name)
		}
		seen[vm.IP], seen[vm.Name] = true, true
	}
	if _, err := w.Create(t.Context(), api.CreateVM{NoStart: true}, nil); !errors.Is(err, api.ErrConflict) {
		t.Errorf("a sixth VM in a /29: %v", err)
	}
}

func TestSimultaneousCreates(t *testing.T) {
	w := newWorld(t)
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() {
			_, err := w.Create(t.Context(), api.CreateVM{Name: "web", NoStart: true}, nil)
			errs <- err
		}()
	}
	won := 0
	for range cap(errs) {
		switch err := <-errs; {
		case err == nil:
			won++
		case !errors.Is(err, api.ErrExists):
			t.Error(err)
		}
	}
	if won != 1 || len(w.list(t)) != 1 {
		t.Errorf("%d creates of one name succeeded, %d VMs exist", won, len(w.list(t)))
	}
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("it didn't happen in time")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
