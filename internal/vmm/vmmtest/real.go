package vmmtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// envInside is set in a test that runs in namespaces of its own.
const envInside = "BANGER_TEST_NETNS"

// InNamespace runs the calling test once more in new namespaces, where it may
// create taps: one for the network and, for a plain user or where asUser says so,
// one in which the user is root. It returns true there, and false outside, once
// the test has passed.
func InNamespace(t *testing.T, asUser bool) bool {
	t.Helper()
	if os.Getenv(envInside) != "" {
		return true
	}
	args := []string{"-test.run=^" + t.Name() + "$"}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if asUser || os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		t.Fatalf("in its own namespace: %v", err)
	}
	return false
}

// NewTap makes a tap for as long as the test runs, and returns its name.
func NewTap(t *testing.T, n int64, flags netlink.TuntapFlag) string {
	t.Helper()
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("tap%d", n)}, Mode: netlink.TUNTAP_MODE_TAP, Flags: flags}
	if err := errors.Join(netlink.LinkAdd(tap), netlink.LinkSetUp(tap)); err != nil {
		t.Fatalf("create tap: %v", err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(tap); err != nil {
			t.Errorf("delete tap: %v", err)
		}
	})
	return tap.Name
}
