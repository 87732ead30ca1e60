//go:build e2e

// Package e2e boots real VMs through the command line, as root and as a plain
// user. Everything that it makes on the host is in network namespaces of its
// own and below BANGER_TEST_CACHE, where images and kernels stay for the next
// run.
package e2e

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"testing"
)

// modes are the ways in which banger runs: as root, in a network namespace
// that stands for the host's, and as a plain user.
var modes []*host

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cache := os.Getenv("BANGER_TEST_CACHE")
	if cache == "" {
		fmt.Fprintln(os.Stderr, "e2e: set BANGER_TEST_CACHE to a directory for images, or run make e2e")
		return 1
	}
	// Where this was started in the background, the programs under test would
	// inherit that SIGINT is ignored, unless it is handled here.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)

	hosts, err := setUpHosts(bin, cache)
	modes = hosts
	defer tearDown(hosts)
	go func() {
		<-interrupted
		tearDown(hosts)
		os.Exit(1)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: set up:", err)
		return 1
	}
	return m.Run()
}

func tearDown(hosts []*host) {
	for _, h := range hosts {
		if err := h.tearDown(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: tear down:", err)
		}
	}
}

// inEachMode runs a test once per mode and checks afterwards that the host is
// as it was before.
func inEachMode(t *testing.T, test func(t *testing.T, h *host)) {
	t.Helper()
	for _, h := range modes {
		t.Run(h.name, func(t *testing.T) {
			h.checkClean(t)
			test(t, h)
		})
	}
}

// once is inEachMode for tests of what doesn't depend on the mode, to save
// time; a plain user's run takes the only mode that it has.
func once(t *testing.T, test func(t *testing.T, h *host)) {
	t.Helper()
	h := modes[0]
	t.Run(h.name, func(t *testing.T) {
		h.checkClean(t)
		test(t, h)
	})
}
