package firecracker

import (
	"net/http"

	"banger/internal/vmm"
)

// The bodies of Firecracker's API, as far as they are used here. Their
// description is src/firecracker/swagger/firecracker.yaml in Firecracker's
// repository. Fields that aren't set are left out.

type machineConfig struct {
	VCPUCount  int   `json:"vcpu_count"`
	MemSizeMiB int64 `json:"mem_size_mib"`
}

type bootSource struct {
	KernelImagePath string `json:"kernel_image_path"`
	InitrdPath      string `json:"initrd_path,omitempty"`
	BootArgs        string `json:"boot_args"`
}

type drive struct {
	DriveID      string `json:"drive_id"`
	PathOnHost   string `json:"path_on_host"`
	IsRootDevice bool   `json:"is_root_device"`
	IsReadOnly   bool   `json:"is_read_only"`
	CacheType    string `json:"cache_type,omitempty"`
}

type networkInterface struct {
	IfaceID       string       `json:"iface_id"`
	HostDevName   string       `json:"host_dev_name"`
	GuestMAC      string       `json:"guest_mac,omitempty"`
	RxRateLimiter *rateLimiter `json:"rx_rate_limiter,omitempty"`
	TxRateLimiter *rateLimiter `json:"tx_rate_limiter,omitempty"`
}

type rateLimiter struct {
	Bandwidth *tokenBucket `json:"bandwidth,omitempty"`
	Ops       *tokenBucket `json:"ops,omitempty"`
}

// tokenBucket allows Size tokens (bytes or operations) per RefillTime
// milliseconds.
type tokenBucket struct {
	Size       int64 `json:"size"`
	RefillTime int64 `json:"refill_time"`
}

type vsockDevice struct {
	GuestCID uint32 `json:"guest_cid"`
	UDSPath  string `json:"uds_path"`
}

type entropyDevice struct{}

type instanceAction struct {
	ActionType string `json:"action_type"`
}

// Actions of instanceAction.
const (
	actionStart      = "InstanceStart"
	actionCtrlAltDel = "SendCtrlAltDel"
)

// instanceInfo answers GET /.
type instanceInfo struct {
	ID    string `json:"id"`
	State string `json:"state"`
}

// stateNotStarted is the state of an instance before InstanceStart.
const stateNotStarted = "Not started"

type versionInfo struct {
	FirecrackerVersion string `json:"firecracker_version"`
}

// guestCID is the guest's address on its vsock. As each VM has a host side of
// its own, the Unix socket, all VMs can have the same.
const guestCID = 3

// request is one call of the API.
type request struct {
	method string
	path   string
	body   any
}

func put(path string, body any) request { return request{http.MethodPut, path, body} }

// requests returns what makes a fresh Firecracker run a VM, in order. Drives
// appear to the guest in the order of their requests. None of them is the root
// device, as the initramfs finds its root by itself.
func requests(spec vmm.Spec, limits NetworkLimits) []request {
	calls := []request{
		put("/machine-config", machineConfig{VCPUCount: spec.VCPUs, MemSizeMiB: spec.MemoryMiB}),
		put("/boot-source", bootSource{
			KernelImagePath: spec.Kernel, InitrdPath: spec.Initramfs, BootArgs: cmdline(spec),
		}),
	}
	for _, d := range spec.Drives {
		body := drive{DriveID: resourceID(d.ID), PathOnHost: d.Path, IsReadOnly: d.ReadOnly}
		if !d.ReadOnly {
			// The default, Unsafe, hides the guest's flushes from the host: what
			// the guest synced would be lost when the host crashes.
			body.CacheType = "Writeback"
		}
		calls = append(calls, put("/drives/"+body.DriveID, body))
	}
	if spec.NIC.Tap != "" {
		calls = append(calls, put("/network-interfaces/eth0", networkInterface{
			IfaceID: "eth0", HostDevName: spec.NIC.Tap, GuestMAC: spec.NIC.MAC,
			RxRateLimiter: limits.ToGuest.limiter(), TxRateLimiter: limits.FromGuest.limiter(),
		}))
	}
	return append(calls,
		// Relative, as the path has to fit into a socket address.
		put("/vsock", vsockDevice{GuestCID: guestCID, UDSPath: vsockSocket}),
		put("/entropy", entropyDevice{}),
		put("/actions", instanceAction{actionStart}),
	)
}

// NetworkLimits bound a VM's network traffic. The zero value doesn't.
type NetworkLimits struct {
	ToGuest   Limit
	FromGuest Limit
}

// Limit bounds traffic in one direction; 0 is no bound.
type Limit struct {
	BytesPerSecond   int64
	PacketsPerSecond int64
}

func (l Limit) limiter() *rateLimiter {
	if l == (Limit{}) {
		return nil
	}
	return &rateLimiter{Bandwidth: bucket(l.BytesPerSecond), Ops: bucket(l.PacketsPerSecond)}
}

func bucket(perSecond int64) *tokenBucket {
	if perSecond <= 0 {
		return nil
	}
	return &tokenBucket{Size: perSecond, RefillTime: 1000}
}
