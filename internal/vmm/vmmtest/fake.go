// Package vmmtest has what tests of and above VMM drivers need: a conformance
// suite that every driver passes, and a driver whose VMs are simulated.
package vmmtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"

	"banger/internal/guest"
	"banger/internal/vmm"
)

// FakeName is the driver's name of a Fake.
const FakeName = "fake"

// Serve is the software of a simulated guest: it handles one connection to one
// of its ports, on a goroutine of its own, and closes it.
type Serve func(port uint32, conn net.Conn)

// Fake is a driver whose VMs are simulated. A VM has a process that can be
// killed and adopted like a VMM's, an idle child; what the guest does runs in
// the test's own process. It implements vmm.Driver.
type Fake struct {
	boot func(*VM) Serve

	mu       sync.Mutex
	vms      map[string]*VM // by Spec.ID; the latest of each
	startErr error
	onAdopt  func(context.Context, vmm.Spec) error
	reattach func(tap string) error
}

// NewFake returns a driver. boot is called once for each VM that starts, on a
// goroutine of its own, and returns the guest's software; until it has
// returned the guest counts as booting, and DialGuest waits. A nil boot gives
// every VM an Agent.
func NewFake(boot func(*VM) Serve) *Fake {
	if boot == nil {
		boot = func(vm *VM) Serve { return NewAgent(vm).Serve }
	}
	return &Fake{boot: boot, vms: map[string]*VM{}}
}

// FailStart makes Start fail with err from now on; nil makes it succeed again.
func (f *Fake) FailStart(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.startErr = err
}

// OnAdopt has every Adopt call a function first, and fail with its error. nil
// takes that back.
func (f *Fake) OnAdopt(call func(context.Context, vmm.Spec) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onAdopt = call
}

// OnReattachTap says what becomes of a VMM that is connected to its tap anew; at
// first that succeeds.
func (f *Fake) OnReattachTap(call func(tap string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reattach = call
}

// VM returns the VM that was last started under an id, or nil.
func (f *Fake) VM(id string) *VM {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.vms[id]
}

// Name returns "fake".
func (f *Fake) Name() string { return FakeName }

// Start starts a VM. As for a real VMM, its drives must exist.
func (f *Fake) Start(ctx context.Context, spec vmm.Spec) (vmm.Machine, error) {
	f.mu.Lock()
	err := f.startErr
	f.mu.Unlock()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("start fake VMM: %w", err)
	}
	for _, drive := range spec.Drives {
		if _, err := os.Stat(drive.Path); err != nil {
			return nil, fmt.Errorf("start fake VMM: open drive %s: %w", drive.ID, err)
		}
	}
	vm, err := startVM(spec)
	if err != nil {
		return nil, fmt.Errorf("start fake VMM: %w", err)
	}
	f.mu.Lock()
	f.vms[spec.ID] = vm
	f.mu.Unlock()
	go vm.run(f.boot)
	return f.newMachine(ctx, vm), nil
}

// Adopt connects to a VM that this Fake has started.
func (f *Fake) Adopt(ctx context.Context, spec vmm.Spec, h vmm.Handle) (vmm.Machine, error) {
	f.mu.Lock()
	onAdopt := f.onAdopt
	f.mu.Unlock()
	if onAdopt != nil {
		if err := onAdopt(ctx, spec); err != nil {
			return nil, fmt.Errorf("adopt fake VMM: %w", err)
		}
	}
	process, err := vmm.OpenProcess(h.PID, h.StartTime)
	if err != nil {
		return nil, fmt.Errorf("adopt fake VMM: %w", err)
	}
	if err := process.Close(); err != nil {
		return nil, err
	}
	vm := f.VM(spec.ID)
	if vm == nil || vm.handle != h {
		return nil, fmt.Errorf("adopt fake VMM: process %d is none of this driver's", h.PID)
	}
	return f.newMachine(ctx, vm), nil
}

// machine is a connection to a VM.
type machine struct {
	fake *Fake
	vm   *VM
	done chan struct{}
	stop context.CancelFunc
	wait sync.WaitGroup
}

func (f *Fake) newMachine(ctx context.Context, vm *VM) *machine {
	life, stop := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the call
	m := &machine{fake: f, vm: vm, done: make(chan struct{}), stop: stop}
	m.wait.Go(func() { vmm.KeepLogsBounded(life, vm.log, vm.Spec.Console) })
	m.wait.Go(func() {
		select {
		case <-vm.ended:
			close(m.done)
			stop()
		case <-life.Done():
		}
	})
	return m
}

func (m *machine) Handle() vmm.Handle    { return m.vm.handle }
func (m *machine) Done() <-chan struct{} { return m.done }
func (m *machine) ExitReason() string    { return m.vm.exitReason() }

// Held is what VM.Hold has set.
func (m *machine) Held() (why string, changed <-chan struct{}) { return m.vm.hold.Held() }

func (m *machine) DialGuest(ctx context.Context, port uint32) (guest.Conn, error) {
	return m.vm.dial(ctx, port)
}

func (m *machine) PowerOff(context.Context) error {
	m.vm.mu.Lock()
	press := m.vm.powerButton
	m.vm.mu.Unlock()
	go press()
	return nil
}

func (m *machine) ReattachTap() error {
	m.fake.mu.Lock()
	reattach := m.fake.reattach
	m.fake.mu.Unlock()
	if reattach == nil {
		return nil
	}
	return reattach(m.vm.Spec.NIC.Tap)
}

func (m *machine) Kill(ctx context.Context) error {
	m.vm.end("it was killed on request")
	select {
	case <-m.vm.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kill fake VMM: %w", ctx.Err())
	}
}

func (m *machine) Close() error {
	m.stop()
	m.wait.Wait()
	return nil
}
