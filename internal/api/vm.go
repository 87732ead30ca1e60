// Package api holds what banger's command line and daemon say to each other:
// the nouns, the routes, the error codes and the progress events. It has no
// logic and imports the standard library only.
package api

import "time"

// State is what a VM is doing, as derived from facts at the time of asking.
type State string

// The states of a VM.
const (
	StateCreated  State = "created"  // never started
	StateStarting State = "starting" // its VMM runs, the guest isn't ready yet
	StateRunning  State = "running"  // its VMM runs and the guest was ready
	StatePaused   State = "paused"   // its VMM has stopped the guest for the time being; Reason says why
	StateStopping State = "stopping" // it was asked to stop
	StateStopped  State = "stopped"  // no VMM runs
	StateUnknown  State = "unknown"  // bangerd can't reach its VMM, or can't read its record; Reason says why
)

// Shape is how large a VM's machine is, and what it can do.
type Shape struct {
	VCPUs     int   `json:"vcpus"`
	MemoryMiB int64 `json:"memory_mib"`
	DiskBytes int64 `json:"disk_bytes"`           // the disk's size as the guest sees it
	SwapBytes int64 `json:"swap_bytes,omitempty"` // 0: none
	Nested    bool  `json:"nested,omitempty"`     // its processor can run VMs itself (QEMU only)
}

// VM describes one sandbox.
type VM struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"` // why it is in this state, in words, when that isn't obvious
	Image  string `json:"image"`
	Kernel string `json:"kernel"`
	Driver string `json:"driver"`          // "qemu" or "firecracker"
	Accel  string `json:"accel,omitempty"` // "kvm" or "tcg"
	Shape
	IP        string            `json:"ip"`
	MAC       string            `json:"mac"`
	PID       int               `json:"pid,omitempty"` // the VMM's, while it runs
	Env       map[string]string `json:"env,omitempty"`
	Workspace *WorkspaceInfo    `json:"workspace,omitempty"`
	Copies    []WorkspaceInfo   `json:"copies,omitempty"`     // further directories that were copied in
	Config    *ImageConfig      `json:"config,omitempty"`     // of its image
	RealRoot  bool              `json:"real_root,omitempty"`  // its root is one filesystem, a copy of the image, and no overlay
	HostPorts []uint16          `json:"host_ports,omitempty"` // as in CreateVM
	CreatedAt time.Time         `json:"created_at"`
	StartedAt *time.Time        `json:"started_at,omitempty"`
	Timing    []PhaseTiming     `json:"timing,omitempty"` // of the last create or start
}

// WorkspaceInfo tells which repository or other directory was copied into a VM.
type WorkspaceInfo struct {
	HostPath  string `json:"host_path"`
	GuestPath string `json:"guest_path"`
	ReadOnly  bool   `json:"read_only,omitempty"` // mounted so in the guest
	Note      string `json:"note,omitempty"`      // what is out of the ordinary with it, for people
}

// PhaseTiming is how long one phase of a create or start took.
type PhaseTiming struct {
	Phase  string `json:"phase"`
	Millis int64  `json:"ms"`
}

// CreateVM asks for a new VM. Zero values mean the configured defaults.
type CreateVM struct {
	Name  string `json:"name,omitempty"` // generated if empty
	Image string `json:"image,omitempty"`
	Shape
	Env       map[string]string `json:"env,omitempty"`        // set in every session and command
	HostPorts []uint16          `json:"host_ports,omitempty"` // of the host's loopback, which it reaches as host.banger.internal
	CACerts   string            `json:"ca_certs,omitempty"`   // PEM, of authorities that the guest is to trust besides its own
	NoStart   bool              `json:"no_start,omitempty"`   // record and disk only
	RealRoot  bool              `json:"real_root,omitempty"`  // a copy of the image as root, in place of an overlay
	Temporary bool              `json:"temporary,omitempty"`  // deleted when bangerd next starts, and if its guest doesn't come up
	// AutoDelete is for a caller that deletes the VM itself, once it has had its
	// use: if bangerd dies before that, the next one deletes it. A VM whose guest
	// wasn't ready in time is kept.
	AutoDelete bool       `json:"auto_delete,omitempty"`
	Workspace  *Workspace `json:"workspace,omitempty"` // copied in once the guest is up
	Copies     []Copy     `json:"copies,omitempty"`    // likewise, and after it
	Wait       Wait       `json:"wait,omitempty"`
}

// Workspace names a host repository to copy into a VM.
type Workspace struct {
	Path      string `json:"path"`                 // absolute, on the host
	GuestPath string `json:"guest_path,omitempty"` // default /root/repo
	Branch    string `json:"branch,omitempty"`     // new branch in the guest
	From      string `json:"from,omitempty"`       // where Branch starts; default HEAD
	// LeaveChanges leaves what isn't committed on the host, where it would be
	// copied, or be refused since From has something else in its place.
	LeaveChanges bool `json:"leave_changes,omitempty"`
}

// Copy names a further host directory to copy into a VM. One in a repository is
// copied for itself, without the history.
type Copy struct {
	Path      string `json:"path"`                 // absolute, on the host
	GuestPath string `json:"guest_path,omitempty"` // default: the last name of Path, in /root
	ReadOnly  bool   `json:"read_only,omitempty"`  // for the guest's programs
}

// Wait says which state of the guest ends a start.
type Wait string

// The states to wait for.
const (
	WaitReady Wait = "ready" // the init system has finished (the default)
	WaitAgent Wait = "agent" // the agent answers
)

// StartVM asks to start a stopped VM.
type StartVM struct {
	Wait Wait `json:"wait,omitempty"`
}

// StopVM asks to stop a running VM.
type StopVM struct {
	Force bool `json:"force,omitempty"` // end the VMM without asking the guest
}

// DeleteVM asks to delete a VM.
type DeleteVM struct {
	Force bool `json:"force,omitempty"` // also when it is running
}

// Access is what an SSH client needs to log in to a VM through the dial route.
type Access struct {
	User       string `json:"user"`
	KeyPath    string `json:"key_path"`    // private key on the host
	HostKey    string `json:"host_key"`    // the guest's public key, authorized_keys format
	KnownHosts string `json:"known_hosts"` // a file with HostKey for the name HostAlias
	HostAlias  string `json:"host_alias"`  // name of the VM in KnownHosts
}

// Version tells who answers.
type Version struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
	// Problems are what keeps it or its VMs from working as they should, a
	// sentence each.
	Problems []string `json:"problems,omitempty"`
	Process  *Process `json:"process,omitempty"` // nil if the host doesn't tell
}

// Process is what the daemon takes of the host at the moment, without its VMs.
type Process struct {
	Goroutines  int   `json:"goroutines"`
	OpenFiles   int   `json:"open_files"`   // sockets, pipes and the like included
	MemoryBytes int64 `json:"memory_bytes"` // that is resident
}

// Host is what the daemon found out about the machine that it runs on.
type Host struct {
	Driver   string   `json:"driver"`   // the driver that new VMs get
	Accel    string   `json:"accel"`    // "kvm" or "tcg"
	Why      string   `json:"why"`      // one line: why this driver
	Rootless bool     `json:"rootless"` // bangerd runs in a user namespace
	KVM      KVMProbe `json:"kvm"`
}

// KVMProbe is what really booting a stock kernel under KVM showed.
type KVMProbe struct {
	Usable bool      `json:"usable"`
	Detail string    `json:"detail"` // what happened, in words
	At     time.Time `json:"at"`     // when it was tried; results are cached
}
