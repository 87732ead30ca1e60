package firecracker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/vmm"
)

// cgroupRoot is where version 2 of control groups is mounted by convention,
// https://docs.kernel.org/admin-guide/cgroup-v2.html.
const cgroupRoot = "/sys/fs/cgroup"

// cgroupParent holds the groups of all VMs.
const cgroupParent = "banger"

// What a Firecracker may use beyond what its guest has.
const (
	extraMemoryMiB = 256 // its own, and some of the host's cache for the drives
	extraCPUs      = 1   // its own threads and KVM's
	maxThreads     = 128 // beyond one per virtual processor
)

// cpuPeriod is the period of cpu.max in microseconds, the kernel's default.
const cpuPeriod = 100_000

// cgroupArgs are the jailer's arguments that give a VM a control group. It
// returns an error, and no arguments, where that is impossible.
func cgroupArgs(spec vmm.Spec) ([]string, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &stat); err != nil {
		return nil, fmt.Errorf("look at %s: %w", cgroupRoot, err)
	}
	if stat.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, fmt.Errorf("%s isn't version 2 of control groups", cgroupRoot)
	}
	list, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers"))
	if err != nil {
		return nil, fmt.Errorf("list the control groups' controllers: %w", err)
	}
	controllers := strings.Fields(string(list))
	args := []string{"--cgroup-version", "2", "--parent-cgroup", cgroupParent}
	for _, limit := range cgroupLimits(spec) {
		controller, _, _ := strings.Cut(limit, ".")
		if !slices.Contains(controllers, controller) {
			return nil, fmt.Errorf("this host's control groups have no controller %q", controller)
		}
		args = append(args, "--cgroup", limit)
	}
	return args, nil
}

// cgroupLimits are values of the group's files, as the jailer takes them.
func cgroupLimits(spec vmm.Spec) []string {
	return []string{
		fmt.Sprintf("memory.max=%d", (spec.MemoryMiB+extraMemoryMiB)<<20),
		fmt.Sprintf("cpu.max=%d %d", (spec.VCPUs+extraCPUs)*cpuPeriod, cpuPeriod),
		fmt.Sprintf("pids.max=%d", spec.VCPUs+maxThreads),
	}
}

// cgroupPoll is how often a group is tried to be removed whose last process is
// just going.
const cgroupPoll = 10 * time.Millisecond

// removeCgroup removes an instance's control group, which must have no process
// any more. A missing one is no error.
func removeCgroup(ctx context.Context, id string) error {
	path := filepath.Join(cgroupRoot, cgroupParent, id)
	for {
		err := os.Remove(path)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("remove control group: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove control group: %w (%w)", err, ctx.Err())
		case <-time.After(cgroupPoll):
		}
	}
}
