package vm

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"runtime"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/naming"
	"banger/internal/network"
)

// The least that a guest boots with: Debian's kernel, the initramfs and systemd
// need about 100 MiB; the disk needs room for its journal and for what is
// seeded from the image.
const (
	minMemoryMiB = 192
	minDiskBytes = 256 << 20
	minSwapBytes = 1 << 20
	maxSwapBytes = 1 << 40
	maxVCPUs     = 32 // Firecracker's limit, docs: machine-config vcpu_count
)

func checkLimits(rec Record) error {
	switch host := hostMemoryMiB(); {
	case rec.VCPUs < 1 || rec.VCPUs > maxVCPUs:
		return api.Errorf(api.CodeInvalid, "%d vCPUs are not possible", rec.VCPUs).
			WithHint("choose 1 to %d; this host has %d CPUs", maxVCPUs, runtime.NumCPU())
	case rec.MemoryMiB < minMemoryMiB:
		return api.Errorf(api.CodeInvalid, "%d MiB of memory is too little for a guest to boot", rec.MemoryMiB).
			WithHint("give it at least %d MiB", minMemoryMiB)
	case rec.MemoryMiB > host:
		return api.Errorf(api.CodeInvalid, "%d MiB of memory is more than this host has (%d MiB)", rec.MemoryMiB, host).
			WithHint("choose a smaller --memory")
	case rec.DiskBytes < minDiskBytes:
		return api.Errorf(api.CodeInvalid, "a disk of %d MiB is too small", rec.DiskBytes>>20).
			WithHint("give it at least %d MiB; it takes up only what the guest writes", minDiskBytes>>20)
	}
	if swap := rec.SwapBytes; swap != 0 && (swap < minSwapBytes || swap > maxSwapBytes) {
		return api.Errorf(api.CodeInvalid, "%d MiB are no size for swap", swap>>20).
			WithHint("choose 1 MiB to 1 TiB, or none")
	}
	if err := checkHostPorts(rec.HostPorts); err != nil {
		return err
	}
	for name := range rec.Env {
		if !naming.IsVariable(name) {
			return api.Errorf(api.CodeInvalid, "%q can't be the name of an environment variable", name)
		}
	}
	return nil
}

// maxCACerts bounds what a guest is to trust, in bytes.
const maxCACerts = 1 << 20

// checkCACerts wants PEM of certificates; whose they are is the user's affair.
func checkCACerts(text string) error {
	if len(text) > maxCACerts {
		return api.Errorf(api.CodeInvalid, "the CA certificates have %d KiB; %d are allowed", len(text)>>10, maxCACerts>>10)
	}
	for rest, n := []byte(text), 1; len(bytes.TrimSpace(rest)) > 0; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != guest.PEMCertificate {
			return api.Errorf(api.CodeInvalid, "CA certificate %d is no certificate in PEM", n)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return api.Errorf(api.CodeInvalid, "CA certificate %d: %v", n, err)
		}
	}
	return nil
}

// maxHostPorts bounds the ports of the host that a VM is given.
const maxHostPorts = 64

func checkHostPorts(ports []uint16) error {
	if len(ports) > maxHostPorts {
		return api.Errorf(api.CodeInvalid, "%d ports of the host are more than the %d that a VM can have", len(ports), maxHostPorts)
	}
	for _, port := range ports {
		switch port {
		case 0:
			return api.Errorf(api.CodeInvalid, "0 can't be a port of the host")
		case network.DNSPort:
			return api.Errorf(api.CodeInvalid, "port %d of the host can't be opened: it is that of banger's own DNS server", port)
		}
	}
	return nil
}

func hostMemoryMiB() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 1 << 40 // can't fail with a valid pointer; if it does, let the VMM complain
	}
	return int64(info.Totalram) * int64(info.Unit) >> 20 //nolint:gosec // memory sizes fit
}
