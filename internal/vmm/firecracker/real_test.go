package firecracker

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
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
	envInside    = "BANGER_TEST_NETNS" // set in the test's own namespace
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
	if os.Getenv(envInside) == "" {
		runInNamespace(t)
		return "", files{}, false
	}
	return binary, f, true
}

// runInNamespace runs the calling test in new namespaces: one for the network,
// and, as a plain user, one where the user is root.
func runInNamespace(t *testing.T) {
	t.Helper()
	args := []string{"-test.run=^" + t.Name() + "$"}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		t.Fatalf("in its own namespace: %v", err)
	}
}

// newRealSpec is newSpec with a tap.
func newRealSpec(t *testing.T, f files) vmm.Spec {
	t.Helper()
	spec := newSpec(t, f)
	n := lastID.Load()
	tap := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("tap%d", n)}, Mode: netlink.TUNTAP_MODE_TAP,
		Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
	}
	if err := errors.Join(netlink.LinkAdd(tap), netlink.LinkSetUp(tap)); err != nil {
		t.Fatalf("create tap: %v", err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(tap); err != nil {
			t.Errorf("delete tap: %v", err)
		}
	})
	spec.NIC = vmm.NIC{Tap: tap.Name, MAC: fmt.Sprintf("06:00:00:00:00:%02x", n)}
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
