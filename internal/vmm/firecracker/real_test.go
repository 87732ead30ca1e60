package firecracker

import (
	"fmt"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"banger/internal/vmm"
	"banger/internal/vmm/vmmtest"
)

// The variables that name a real Firecracker and what it boots; without them
// these tests are skipped.
const (
	envBinary    = "BANGER_FIRECRACKER_BIN"
	envKernel    = "BANGER_TEST_KERNEL"
	envInitramfs = "BANGER_TEST_INITRAMFS" // with banger's agent
	envImage     = "BANGER_TEST_IMAGE"
)

// needReal skips a test that needs a real Firecracker where there is none, and
// returns its path and the files to boot. The test is run in namespaces of its
// own, where it may create taps; outside, here is false once it has passed.
func needReal(t *testing.T) (binary string, f files, here bool) {
	t.Helper()
	binary = os.Getenv(envBinary)
	f = files{os.Getenv(envKernel), os.Getenv(envInitramfs), os.Getenv(envImage)}
	if binary == "" || f.kernel == "" || f.initramfs == "" || f.image == "" {
		t.Skipf("NO REAL FIRECRACKER IS TESTED: %s, %s, %s and %s are not all set", envBinary, envKernel, envInitramfs, envImage)
	}
	return binary, f, vmmtest.InNamespace(t, false)
}

// newRealSpec is newSpec with a tap.
func newRealSpec(t *testing.T, f files) vmm.Spec {
	t.Helper()
	spec := newSpec(t, f)
	n := lastID.Load()
	spec.NIC = vmm.NIC{Tap: vmmtest.NewTap(t, n, netlink.TUNTAP_NO_PI|netlink.TUNTAP_VNET_HDR), MAC: fmt.Sprintf("06:00:00:00:00:%02x", n)}
	return spec
}

// TestConformance boots real VMs.
func TestConformance(t *testing.T) {
	if binary, f, here := needReal(t); here {
		conform(t, f, Config{Binary: binary})
	}
}

// TestJailedConformance boots real VMs in jails.
func TestJailedConformance(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NO JAIL IS TESTED: the jailer needs root")
	}
	binary, f, here := needReal(t)
	if !here {
		return
	}
	jailer := FindJailer(binary)
	if jailer == "" {
		t.Fatalf("there is no jailer beside %s", binary)
	}
	conform(t, f, Config{Binary: binary, Jailer: Jailer{Mode: JailerOn, Binary: jailer}})
}

func conform(t *testing.T, f files, c Config) {
	vmmtest.Run(t, func(t *testing.T) vmmtest.Fixture {
		own := c
		own.Log = testLog(t)
		return vmmtest.Fixture{
			Driver:      New(own),
			NewSpec:     func(t *testing.T) vmm.Spec { return newRealSpec(t, f) },
			Break:       func(s *vmm.Spec) { s.NIC.Tap = "no such tap" },
			PowerButton: true,
		}
	})
}
