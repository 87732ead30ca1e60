// Package vm is the life of a VM: create, start, stop, delete, and what is
// found of it after a crash. Read create.go first.
package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/image"
	"banger/internal/kernel"
	"banger/internal/network"
	"banger/internal/paths"
	"banger/internal/sshkey"
	"banger/internal/store"
	"banger/internal/vmm"
)

// Images finds root filesystems.
type Images interface {
	// Use returns an image that stays as it is until release is called.
	Use(ctx context.Context, name string, progress api.ProgressFunc) (img image.Image, release func(), err error)
}

// Kernels finds kernels.
type Kernels interface {
	// Use is Images.Use for a kernel.
	Use(ctx context.Context, name string, progress api.ProgressFunc) (k kernel.Kernel, release func(), err error)
}

// Initramfs returns the file that boots a kernel with the current agent.
type Initramfs func(k kernel.Kernel) (path string, err error)

// Network connects VMs, and is up while there are any.
type Network interface {
	Attach(ctx context.Context, p network.Port) (network.NIC, error)
	Detach(ctx context.Context, id string, addr netip.Addr) error
	// Keep keeps the ports that wanted returns, and no others.
	Keep(ctx context.Context, wanted func() ([]network.Port, error)) error
	// Mend puts right what others have changed of a VM's port.
	Mend(ctx context.Context, id string, reattach func() error) error
	// Watch tells of changes after which it may be worth while to call Mend.
	Watch(ctx context.Context) (<-chan struct{}, error)
	// Hosts are the addresses that VMs can have. Attach may change them while
	// there are no ports.
	Hosts() iter.Seq[netip.Addr]
}

// Drivers knows the VMM drivers.
type Drivers interface {
	// Choose picks the driver for a new start, and says in a line why. A nested
	// VM can run VMs itself, which not every driver can give.
	Choose(ctx context.Context, k kernel.Kernel, nested bool) (Choice, error)
	// Named returns the driver of that name, to adopt what it started.
	Named(name string) (vmm.Driver, error)
}

// Choice is a driver and the reason for it, in a few words.
type Choice struct {
	Driver vmm.Driver
	Accel  string // as in vmm.Handle
	Why    string
}

// Workspace is a repository, or another directory, that was inspected and can be
// copied into a guest.
type Workspace interface {
	Info() api.WorkspaceInfo
	Push(ctx context.Context, extract func(ctx context.Context, path string, tar io.Reader) error, progress api.ProgressFunc) error
}

// Config is what a Manager is made of.
type Config struct {
	Layout    paths.Layout
	DB        *store.DB // opened with Schema
	Images    Images
	Kernels   Kernels
	Initramfs Initramfs
	Network   Network
	Copied    bool // the records are a copy: the VMMs that they name are another bangerd's
	Drivers   Drivers
	// Inspect checks a repository before anything is created for it.
	Inspect func(ctx context.Context, w api.Workspace) (Workspace, error)
	// InspectCopy does so with a further directory.
	InspectCopy func(ctx context.Context, c api.Copy) (Workspace, error)
	UserKey     sshkey.Pair // opens every VM
	KeyPath     string      // where its private half is
	// Credentials are the files of the user that every VM gets, read anew at
	// each start.
	Credentials func() Credentials
	Defaults    Defaults
	BootTimeout time.Duration
	Log         *slog.Logger
}

// Defaults apply where a request is silent.
type Defaults struct {
	Image string
	api.Shape
}

// shaped fills in what a request leaves open.
func (d Defaults) shaped(s api.Shape) api.Shape {
	s.VCPUs = or(s.VCPUs, d.VCPUs)
	s.MemoryMiB = or(s.MemoryMiB, d.MemoryMiB)
	s.DiskBytes = or(s.DiskBytes, d.DiskBytes)
	return s
}

// Manager keeps the VMs of one user. Its methods are safe for concurrent use.
type Manager struct {
	cfg     Config
	records records
	log     *slog.Logger

	mu    sync.Mutex
	slots map[string]slot // by VM id; use slot and setSlot

	// The work that no call waits for goes on until stop is called.
	life  context.Context
	stop  context.CancelCauseFunc
	tasks sync.WaitGroup
}

// New makes a Manager. Call Reconcile before anything else.
func New(cfg Config) *Manager {
	life, stop := context.WithCancelCause(context.Background())
	return &Manager{
		cfg:     cfg,
		records: records{db: cfg.DB},
		log:     cfg.Log,
		slots:   make(map[string]slot),
		life:    life,
		stop:    stop,
	}
}

// List describes every VM. It asks no guest and no VMM.
func (m *Manager) List(ctx context.Context) ([]api.VM, error) {
	recs, err := m.records.list(ctx)
	if err != nil {
		return nil, err
	}
	vms := make([]api.VM, 0, len(recs))
	for _, rec := range recs {
		vms = append(vms, describe(rec, m.facts(rec)))
	}
	return vms, nil
}

// Get describes the VM of that name or id.
func (m *Manager) Get(ctx context.Context, ref string) (api.VM, error) {
	rec, err := m.records.find(ctx, ref)
	if err != nil {
		return api.VM{}, err
	}
	return describe(rec, m.facts(rec)), nil
}

// Access tells how to log in to a VM.
func (m *Manager) Access(ctx context.Context, ref string) (api.Access, error) {
	rec, err := m.records.find(ctx, ref)
	if err != nil {
		return api.Access{}, err
	}
	return api.Access{
		User:       "root",
		KeyPath:    m.cfg.KeyPath,
		HostKey:    rec.HostPub,
		KnownHosts: m.cfg.Layout.VMKnownHosts(rec.ID),
		HostAlias:  hostAlias(rec),
	}, nil
}

// Dial connects to a port of a running VM's agent.
func (m *Manager) Dial(ctx context.Context, ref string, port uint32) (guest.Conn, error) {
	rec, err := m.records.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	inst, err := m.instance(rec)
	if err != nil {
		return nil, err
	}
	if observe(rec, m.facts(rec)) == api.StateStopping {
		return nil, api.Errorf(api.CodeConflict, "VM %q is stopping", rec.Name).
			WithHint("once it has stopped, banger vm start %s starts it; banger vm stop --force %s ends it at once", rec.Name, rec.Name)
	}
	ctx, cancel := inst.bound(ctx)
	defer cancel()
	conn, err := inst.machine.DialGuest(ctx, port)
	var held *heldUp
	switch {
	case errors.As(context.Cause(ctx), &held):
		if err == nil {
			_ = conn.Close() // of no use for now
		}
		return nil, held.told
	case err != nil:
		return nil, fmt.Errorf("reach the agent of VM %s: %w", rec.Name, err)
	}
	return conn, nil
}

// ConsoleLog returns the file that holds a VM's console output.
func (m *Manager) ConsoleLog(ctx context.Context, ref string) (string, error) {
	rec, err := m.records.find(ctx, ref)
	if err != nil {
		return "", err
	}
	return m.cfg.Layout.VMConsole(rec.ID), nil
}

// Lookup answers DNS, from memory: the address of the VM of that name.
func (m *Manager) Lookup(name string) (netip.Addr, bool) { return m.records.names.address(name) }

// ReverseLookup answers DNS, from memory: the name of the VM at that address.
func (m *Manager) ReverseLookup(ip netip.Addr) (string, bool) { return m.records.names.name(ip) }

// Close lets go of the machines, which run on.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.stop(errReleased)
	m.mu.Unlock()
	m.tasks.Wait() // none of them can make an instance any more
	m.mu.Lock()
	instances := m.instances()
	m.mu.Unlock()
	var errs []error
	for _, inst := range instances {
		errs = append(errs, inst.release())
	}
	return errors.Join(errs...)
}

// instance returns the VM's running instance or says that there is none.
func (m *Manager) instance(rec Record) (*instance, error) {
	if inst := m.slot(rec.ID).inst; inst != nil && inst.alive() {
		return inst, nil
	}
	if f := m.facts(rec); observe(rec, f) == api.StateUnknown {
		return nil, unknownError("reach", rec, f)
	}
	return nil, api.Errorf(api.CodeConflict, "VM %q is not running", rec.Name).
		WithHint("banger vm start %s starts it", rec.Name)
}

func (m *Manager) facts(rec Record) facts {
	f, inst := m.known(rec)
	if f.alive {
		f.held, f.noSpace = inst.space() // of a disk, which may be slow
	}
	return f
}

// known is the facts that memory holds, and the VM's instance if there is one.
func (m *Manager) known(rec Record) (facts, *instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.slots[rec.ID]
	f := facts{alive: s.inst != nil && s.inst.alive()}
	if f.alive {
		f.offline, f.unbooted = s.inst.offline, s.inst.unbooted
	}
	if s.lost != nil {
		f.unreached = s.lost.reason
	}
	if s.job != nil {
		f.operation = s.job.operation
	}
	return f, s.inst
}

func hostAlias(rec Record) string { return "banger-" + rec.ID }
