// Package daemontest holds working in-memory services for tests of the API,
// its client and the command line.
package daemontest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
)

// Names that make the creation of a VM behave badly, and some also the pull of
// an image.
const (
	NameFails    = "fails"    // fails half-way, leaving nothing
	NameTimesOut = "timesout" // the guest is waited for in vain, the VM is kept
	NameHangs    = "hangs"    // goes on until it is cancelled
	NamePanics   = "panics"   // hits a bug
	NameUnknown  = "unknown"  // its VMM can't be reached
	NameUnready  = "unready"  // its guest doesn't become ready
	NameDamaged  = "damaged"  // an image that can't be used once it is there
)

// noteOfPlain is the note with directories that are called plain.
const noteOfPlain = "it is not a git repository"

// VMs is a daemon.VMs whose machines are records in memory. Their console logs
// are files in Dir.
type VMs struct {
	Dir string
	// Guest serves one connection to a guest's port and closes it. The default
	// sends back what it receives.
	Guest func(conn net.Conn, port uint32)
	// Images has the configuration that VMs get of their images. May be nil.
	Images *Images

	mu        sync.Mutex
	vms       map[string]api.VM // by name
	made      int
	cancelled int
}

// Cancelled returns how many creates were cancelled half-way.
func (f *VMs) Cancelled() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cancelled
}

// List returns the VMs in the order of their names.
func (f *VMs) List(context.Context) ([]api.VM, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Values(f.vms), func(a, b api.VM) int { return cmp.Compare(a.Name, b.Name) }), nil
}

// Get returns one VM.
func (f *VMs) Get(_ context.Context, ref string) (api.VM, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.find(ref)
}

// find returns a VM by name or id. The caller holds mu.
func (f *VMs) find(ref string) (api.VM, error) {
	for _, vm := range f.vms {
		if vm.Name == ref || vm.ID == ref {
			return vm, nil
		}
	}
	return api.VM{}, api.Errorf(api.CodeNotFound, "there is no VM %q", ref).WithHint("run: banger vm list")
}

// Create makes a VM, unless its name asks for something else.
func (f *VMs) Create(ctx context.Context, req api.CreateVM, progress api.ProgressFunc) (api.VM, error) {
	f.mu.Lock()
	_, exists := f.vms[req.Name]
	f.mu.Unlock()
	if exists {
		return api.VM{}, api.Errorf(api.CodeExists, "VM %q exists already", req.Name)
	}
	progress.Report(api.Progress{Phase: "disk", Title: "making the disk", Total: 2, Unit: "bytes"})
	switch req.Name {
	case NameFails:
		return api.VM{}, fmt.Errorf("create vm: %w", api.Errorf(api.CodeHost, "the disk is full").WithHint("run: banger vm prune"))
	case NamePanics:
		panic("a bug in create")
	case NameHangs:
		goOn(ctx, progress, api.Progress{Phase: "disk", Title: "making the disk", Total: 2, Unit: "bytes"})
		f.mu.Lock()
		f.cancelled++
		f.mu.Unlock()
		return api.VM{}, fmt.Errorf("make disk: %w", ctx.Err())
	}
	progress.Report(api.Progress{Phase: "disk", Title: "making the disk", Done: 2, Total: 2, Unit: "bytes", Finished: true, Millis: 12})
	vm, err := f.add(req)
	if err == nil && req.Name == NameTimesOut {
		e := api.Errorf(api.CodeTimeout, "the guest of VM %q was not ready within 60s; the VM is kept", vm.Name).
			WithHint("banger vm logs %s shows what it does; banger vm delete --force %s removes it", vm.Name, vm.Name)
		e.VM = vm.Name
		return api.VM{}, e
	}
	return vm, err
}

// goOn reports progress of a step until ctx ends.
func goOn(ctx context.Context, progress api.ProgressFunc, step api.Progress) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			step.Done = 1
			progress.Report(step)
		}
	}
}

func (f *VMs) add(req api.CreateVM) (api.VM, error) {
	var config *api.ImageConfig
	if f.Images != nil {
		config = f.Images.config(req.Image)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made++
	vm := api.VM{
		ID:        fmt.Sprintf("%012x", f.made),
		Name:      cmp.Or(req.Name, fmt.Sprintf("vm-%d", f.made)),
		State:     api.StateRunning,
		Image:     cmp.Or(req.Image, "debian-bookworm"),
		Kernel:    DefaultKernel,
		Driver:    "qemu",
		Accel:     "tcg",
		Shape:     req.Shape,
		IP:        fmt.Sprintf("172.16.0.%d", f.made+1),
		Env:       req.Env,
		RealRoot:  req.RealRoot,
		Config:    config,
		CreatedAt: time.Now().UTC(),
		Timing:    []api.PhaseTiming{{Phase: "disk", Millis: 12}, {Phase: "boot", Millis: 3456}},
	}
	vm.VCPUs, vm.MemoryMiB, vm.DiskBytes = cmp.Or(vm.VCPUs, 2), cmp.Or(vm.MemoryMiB, 2048), cmp.Or(vm.DiskBytes, 20<<30)
	if req.NoStart {
		vm.State = api.StateCreated
	}
	if req.Name == NameUnknown {
		vm.State, vm.Reason = api.StateUnknown, "its VMM doesn't answer"
	}
	if req.Name == NameUnready {
		vm.State, vm.Reason = api.StateStarting, "the guest wasn't seen to finish booting"
	}
	if w := req.Workspace; w != nil {
		guestPath := cmp.Or(w.GuestPath, "/root/repo")
		vm.Workspace = &api.WorkspaceInfo{HostPath: w.Path, GuestPath: guestPath}
		if filepath.Base(w.Path) == "plain" {
			vm.Workspace.Note = noteOfPlain
		}
	}
	for _, c := range req.Copies {
		info := api.WorkspaceInfo{HostPath: c.Path, GuestPath: cmp.Or(c.GuestPath, "/root/"+filepath.Base(c.Path)), ReadOnly: c.ReadOnly}
		if filepath.Base(c.Path) == "plain" {
			info.Note = noteOfPlain
		}
		vm.Copies = append(vm.Copies, info)
	}
	if f.vms == nil {
		f.vms = make(map[string]api.VM)
	}
	f.vms[vm.Name] = vm
	return vm, os.WriteFile(f.logPath(vm.ID), []byte("console of "+vm.Name+"\n"), 0o600)
}

func (f *VMs) logPath(id string) string { return filepath.Join(f.Dir, id+".log") }

// Start starts a VM.
func (f *VMs) Start(_ context.Context, ref string, _ api.StartVM, progress api.ProgressFunc) (api.VM, error) {
	return f.move(ref, api.StateRunning, progress, "boot", "booting the guest")
}

// Stop stops a VM.
func (f *VMs) Stop(_ context.Context, ref string, _ api.StopVM, progress api.ProgressFunc) (api.VM, error) {
	return f.move(ref, api.StateStopped, progress, "stop", "stopping the guest")
}

func (f *VMs) move(ref string, to api.State, progress api.ProgressFunc, phase, title string) (api.VM, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	vm, err := f.find(ref)
	if err != nil {
		return vm, err
	}
	if vm.State == to {
		return vm, api.Errorf(api.CodeConflict, "VM %q is already %s", vm.Name, to)
	}
	progress.Report(api.Progress{Phase: phase, Title: title})
	progress.Report(api.Progress{Phase: phase, Title: title, Finished: true, Millis: 5})
	vm.State = to
	f.vms[vm.Name] = vm
	return vm, nil
}

// Delete deletes a VM that doesn't run, or any with force.
func (f *VMs) Delete(_ context.Context, ref string, req api.DeleteVM) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	vm, err := f.find(ref)
	if err != nil {
		return err
	}
	if vm.State == api.StateRunning && !req.Force {
		return api.Errorf(api.CodeConflict, "VM %q is running", vm.Name).WithHint("stop it first, or use --force")
	}
	delete(f.vms, vm.Name)
	return nil
}

// Access returns made-up files.
func (f *VMs) Access(ctx context.Context, ref string) (api.Access, error) {
	vm, err := f.running(ctx, ref)
	if err != nil {
		return api.Access{}, err
	}
	return api.Access{
		User:       "root",
		KeyPath:    filepath.Join(f.Dir, "id_ed25519"),
		HostKey:    "ssh-ed25519 AAAA",
		KnownHosts: filepath.Join(f.Dir, "known_hosts"),
		HostAlias:  vm.ID + ".banger",
	}, nil
}

func (f *VMs) running(ctx context.Context, ref string) (api.VM, error) {
	vm, err := f.Get(ctx, ref)
	if err == nil && vm.State != api.StateRunning {
		err = api.Errorf(api.CodeConflict, "VM %q is %s", vm.Name, vm.State).WithHint("run: banger vm start %s", vm.Name)
	}
	return vm, err
}

// Dial connects to Guest.
func (f *VMs) Dial(ctx context.Context, ref string, port uint32) (guest.Conn, error) {
	if _, err := f.running(ctx, ref); err != nil {
		return nil, err
	}
	host, guest, err := socketPair()
	if err != nil {
		return nil, err
	}
	serve := f.Guest
	if serve == nil {
		serve = Echo
	}
	go serve(guest, port)
	return host, nil
}

// ConsoleLog returns the path of a file with one line.
func (f *VMs) ConsoleLog(ctx context.Context, ref string) (string, error) {
	vm, err := f.Get(ctx, ref)
	return f.logPath(vm.ID), err
}
