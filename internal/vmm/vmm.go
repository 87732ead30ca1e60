// Package vmm defines what banger needs of a virtual machine monitor. Drivers
// are in sub-packages; none of them knows images, addresses or agents' calls.
package vmm

import (
	"context"

	"banger/internal/guest"
	"banger/internal/procid"
)

// Spec is all that a driver needs to start one VM. Paths are absolute.
type Spec struct {
	ID         string // unique, 12 hex digits
	Name       string // for process lists only
	StateDir   string // exists; logs and small files of the VMM go here
	RuntimeDir string // exists; sockets go here (short path)
	Console    string // file that receives the console, bounded by the driver
	Kernel     string // ELF vmlinux
	Initramfs  string // newc cpio
	Cmdline    string // kernel command line; empty: the driver's own, which suits every VM
	VCPUs      int
	MemoryMiB  int64
	Nested     bool    // the guest gets a processor that can run VMs
	Drives     []Drive // appear in this order
	NIC        NIC
}

// Drive is a raw disk file. The guest finds it by its ID, which is the
// virtio-blk serial (at most 20 bytes) where the driver can set one.
type Drive struct {
	ID       string
	Path     string
	ReadOnly bool
}

// NIC is a network interface behind an existing tap device.
type NIC struct {
	Tap string
	MAC string
}

// Handle identifies a started VMM across restarts of bangerd. It is stored in
// the VM's record as JSON.
type Handle struct {
	Driver    string `json:"driver"`
	PID       int    `json:"pid"`
	StartTime uint64 `json:"start_time"` // field 22 of /proc/PID/stat, clock ticks since boot
	Accel     string `json:"accel"`      // "kvm" or "tcg"
}

// Machine is a VMM process that bangerd is connected to. Methods are safe for
// concurrent use.
type Machine interface {
	// Handle returns what Adopt needs to find this machine again.
	Handle() Handle
	// DialGuest connects to a port of the guest's agent. It waits, until ctx
	// ends, for a guest that is still booting.
	DialGuest(ctx context.Context, port uint32) (guest.Conn, error)
	// Done is closed once the VMM process has ended, for whatever reason.
	Done() <-chan struct{}
	// ExitReason tells in words why the VMM ended, once Done is closed; ""
	// when nothing is known (it was adopted and ended without a word).
	ExitReason() string
	// PowerOff asks the guest to shut down by way of the virtual hardware. The
	// guest may ignore it; the caller waits for Done and then calls Kill.
	PowerOff(ctx context.Context) error
	// ReattachTap connects the VMM to the tap of its Spec, which was removed and
	// made anew meanwhile. It returns ErrGone when the VMM has ended.
	ReattachTap() error
	// Kill ends the VMM at once and returns when it is gone.
	Kill(ctx context.Context) error
	// Close lets go of the machine without ending it.
	Close() error
}

// Driver starts and adopts VMMs of one kind.
type Driver interface {
	// Name is the driver's name in records and output.
	Name() string
	// Start starts a VMM that outlives this process and returns as soon as it
	// runs; the guest is still booting then. On error nothing is left behind.
	Start(ctx context.Context, spec Spec) (Machine, error)
	// Adopt connects to a VMM that an earlier bangerd started. It returns
	// ErrGone when that process doesn't exist any more.
	Adopt(ctx context.Context, spec Spec, h Handle) (Machine, error)
}

// Cleaner is a Driver whose VMMs leave something on the host, besides files in
// the directories of their Spec, if they end while no bangerd is connected.
type Cleaner interface {
	// Clean removes what is left of a VM whose VMM has ended. It is no error if
	// there is nothing.
	Clean(ctx context.Context, spec Spec) error
}

// Rebooted is the ExitReason of a machine whose guest has reset it in good order:
// every driver ends then.
const Rebooted = "the guest rebooted"

// ErrGone says that the VMM of a handle doesn't run any more.
var ErrGone = procid.ErrGone
