// Package guest is the conversation between the host and the agent inside a
// VM: the ports, the messages, the framing on a serial line, and the host's
// side of the calls. The agent (package agent) implements the other side.
//
// # Ports
//
// A connection goes to a numbered port of the agent, whatever carries it:
// AF_VSOCK, or a yamux stream on a virtio-serial port.
//
// # Control calls
//
// A connection to PortControl carries one call: the host writes one line of
// JSON (Request), the agent answers one line of JSON (Response). Calls that
// move files have a raw stream before or after; see each call's comment.
package guest

import (
	"encoding/json"
	"time"
)

// The agent's ports.
const (
	PortSSH     = 22   // SSH 2.0 server (exec, shell, sftp, forwarding)
	PortControl = 1024 // control calls
)

// SerialPortName is the name of the virtio-serial port on drivers without
// vsock, as found in /sys/class/virtio-ports/*/name.
const SerialPortName = "banger.agent.0"

// Request is one control call.
type Request struct {
	Call   Call            `json:"call"`
	Params json.RawMessage `json:"params,omitempty"`
}

// Response answers a Request. Error is a sentence for the user; "" is success.
type Response struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// Call names a control call.
type Call string

// The control calls.
const (
	CallHealth   Call = "health"   // → Health
	CallBoot     Call = "boot"     // BootConfig → BootResult; once, before switch_root
	CallReady    Call = "ready"    // → Ready; answers once the init system has finished
	CallExtract  Call = "extract"  // ExtractParams; "go ahead" Response, then a tar stream from the host until EOF (half-close), then a second Response
	CallArchive  Call = "archive"  // ArchiveParams; "go ahead" Response, then a tar stream from the agent in chunks (see ChunkWriter), then a second Response
	CallShutdown Call = "shutdown" // ShutdownParams; answers, then the guest goes down
	CallClock    Call = "clock"    // ClockParams → Clock
)

// Stage tells how far the guest's boot is.
type Stage string

// The stages of a boot, in order.
const (
	StageInitramfs Stage = "initramfs" // waits for Boot
	StageBooting   Stage = "booting"   // the init system is starting
	StageReady     Stage = "ready"     // it has finished, or there is none
)

// Health is what the agent says of itself.
type Health struct {
	Version string        `json:"version"` // of the agent's build
	Stage   Stage         `json:"stage"`
	Uptime  time.Duration `json:"uptime"` // since the kernel started, in ns
}

// BootConfig makes the booted kernel into one particular VM. Devices are found
// by their virtio-blk serials.
type BootConfig struct {
	Hostname       string            `json:"hostname"`
	MAC            string            `json:"mac"`     // of the interface to configure
	Address        string            `json:"address"` // IPv4 with prefix length, 172.16.0.5/24
	Gateway        string            `json:"gateway"`
	MTU            int               `json:"mtu,omitempty"`
	DNS            []string          `json:"dns"`
	ImageDevice    string            `json:"image_device"`             // serial of the read-only root filesystem
	DiskDevice     string            `json:"disk_device"`              // serial of the VM's own disk
	ModulesDevice  string            `json:"modules_device,omitempty"` // serial of the kernel's modules filesystem, mounted at /lib/modules
	SwapDevice     string            `json:"swap_device,omitempty"`    // serial of a disk to swap to, with anything on it
	RealRoot       bool              `json:"real_root,omitempty"`      // the root is a copy of the image on the disk, made at the first boot, and no overlay
	RealDirs       []string          `json:"real_dirs"`                // directories bound from the disk instead of the overlay
	AuthorizedKeys []string          `json:"authorized_keys"`
	HostKey        string            `json:"host_key"`              // the agent's SSH host key, OpenSSH PEM
	Env            map[string]string `json:"env,omitempty"`         // of every session, its PATH and HOME win over the account's
	WorkDir        string            `json:"work_dir,omitempty"`    // made if it is missing: an image's working directory
	Files          []File            `json:"files,omitempty"`       // written into the root, e.g. credentials
	KeepFiles      []string          `json:"keep_files,omitempty"`  // of an earlier boot's Files: these stay, others that are no longer in Files are removed
	CACerts        string            `json:"ca_certs,omitempty"`    // PEM, of authorities that the guest is to trust
	InstallSSH     bool              `json:"install_ssh,omitempty"` // see that an OpenSSH server is installed and runs
	ReadOnly       []string          `json:"read_only,omitempty"`   // directories to mount as ExtractParams does, if they are there
	Time           time.Time         `json:"time"`                  // the host's clock
	Entropy        []byte            `json:"entropy"`               // seed for the guest's random numbers
}

// PEMCertificate is the type of certificates in PEM.
const PEMCertificate = "CERTIFICATE"

// File is written at every boot.
type File struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode"`
	Data []byte `json:"data"`
}

// BootResult answers Boot just before the init system is executed.
type BootResult struct {
	Init    string        `json:"init"`    // path of the image's init; "" if the agent stays PID 1
	Started time.Duration `json:"started"` // uptime when the agent began to run as PID 1
	Booted  time.Duration `json:"booted"`  // uptime at this reply
	// Warnings are lines for the user, of what was left undone.
	Warnings []string `json:"warnings,omitempty"`
}

// Ready answers CallReady.
type Ready struct {
	State  string        `json:"state"`            // "running", "degraded", or "none" without an init system
	Failed []string      `json:"failed,omitempty"` // failed units, if degraded; MaxFailed of them
	Uptime time.Duration `json:"uptime"`           // when it became ready
}

// MaxFailed is how many failed units a Ready names; a unit's name has up to 255
// bytes.
const MaxFailed = 100

// ClockParams asks for the guest's clock or, with Set, corrects it.
type ClockParams struct {
	Set *ClockSetting `json:"set,omitempty"`
}

// ClockSetting says what time it was when the guest's uptime was Uptime. It
// stays true however late it arrives, so that no delay on the way makes a clock
// wrong.
type ClockSetting struct {
	Uptime time.Duration `json:"uptime"`
	Time   time.Time     `json:"time"`
}

// Clock is what a guest's clock showed, after a correction if there was one.
type Clock struct {
	Uptime time.Duration `json:"uptime"` // since the kernel started, in ns
	Time   time.Time     `json:"time"`
}

// ExtractParams says where a tar stream goes, in which sparse files may have a
// SparseRecord. Owners are set to root; nothing in the stream can be written
// outside Path.
type ExtractParams struct {
	Path     string `json:"path"`                // created if missing
	ReadOnly bool   `json:"read_only,omitempty"` // once all is there, mount Path over itself so, until the guest goes down
}

// ArchiveParams asks for the guest's root filesystem as an image: one tree of
// the overlay and the directories bound into it, without what other filesystems
// are mounted for (/proc, /sys, /dev, /run, /tmp and /lib/modules are empty) and
// without what makes it this VM (ids, keys, the files of BootConfig). The stream
// is a PAX tar; it is whole only if the second Response has no error. Files may
// change while they are read; none is in the stream with another size than its
// header says.
type ArchiveParams struct{}

// ShutdownParams says how the guest goes down.
type ShutdownParams struct {
	// Reset ends with a reset of the machine (reboot system call) where it
	// would power off. Firecracker ends on a reset only.
	Reset bool `json:"reset,omitempty"`
}
