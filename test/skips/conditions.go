package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// sometimes is a condition that says nothing of the machine.
const sometimes = "sometimes"

// conditions are what a machine may lack, and whether this one does.
var conditions = map[string]func() bool{
	sometimes: func() bool { return true },
	"not-root": func() bool {
		return os.Geteuid() != 0
	},
	"no-kvm":     func() bool { return !opens("/dev/kvm") },
	"no-tun":     func() bool { return !opens("/dev/net/tun") || !isForAll("/dev/net/tun") },
	"no-loop":    func() bool { return !opens("/dev/loop-control") },
	"no-day":     func() bool { return os.Getenv("BANGER_E2E_DAY") == "" },
	"no-soak":    func() bool { return os.Getenv("BANGER_SOAK") == "" },
	"no-real-vm": func() bool { return os.Getenv("BANGER_TEST_KERNEL") == "" },
	"no-firecracker": func() bool {
		return os.Getenv("BANGER_FIRECRACKER_BIN") == "" || os.Getenv("BANGER_TEST_KERNEL") == ""
	},
	"no-mounts":     func() bool { return !runsIn(syscall.CLONE_NEWNS) },
	"no-namespaces": func() bool { return !runsIn(syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS) },
	"no-devices":    func() bool { return !makesDevices() },
	"no-cgroups":    func() bool { return !makesGroups("/sys/fs/cgroup") && !makesGroups("/sys/fs/cgroup/unified") },
	"no-memory-limits": func() bool {
		controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
		return err != nil || !strings.Contains(string(controllers), "memory") || !makesGroups("/sys/fs/cgroup")
	},
	"no-network": func() bool { return !hasDefaultRoute() },
	"no-sub-ids": func() bool { return !hasSubIDs() },
	"no-holes":   func() bool { return !punchesHoles() },
	"old-git":    func() bool { return olderGit(2, 36) },
	"firecracker": func() bool {
		_, err := exec.LookPath("firecracker")
		return err == nil && opens("/dev/kvm") || strings.Contains(os.Getenv("BANGER_E2E_CONFIG"), "firecracker")
	},
	"tmpfs": func() bool { return isOn(os.TempDir(), unix.TMPFS_MAGIC) },
}

func known(condition string) bool { return conditions[condition] != nil }

// holds reports whether a condition does on this machine.
func holds(condition string) bool { return conditions[condition]() }

func opens(device string) bool {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// runsIn reports whether a program can be started in namespaces of its own.
func runsIn(flags uintptr) bool {
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if flags&syscall.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return cmd.Run() == nil
}

// olderGit reports whether git is missing or of a version before that.
func olderGit(major, minor int) bool {
	var is, has int
	out, err := exec.Command("git", "version").Output()
	if err == nil {
		_, err = fmt.Sscanf(string(out), "git version %d.%d", &is, &has)
	}
	return err != nil || is < major || is == major && has < minor
}

// isForAll reports whether every user may write to a file.
func isForAll(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().Perm()&0o006 == 0o006
}

func punchesHoles() bool {
	f, err := os.CreateTemp("", "banger-skips-")
	if err != nil {
		return false
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const size = 1 << 20
	return f.Truncate(size) == nil &&
		unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, size) == nil
}

func makesDevices() bool {
	dir, err := os.MkdirTemp("", "banger-skips-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	return unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) == nil
}

// makesGroups reports whether control groups of version 2 can be made there.
func makesGroups(root string) bool {
	if !isOn(root, unix.CGROUP2_SUPER_MAGIC) {
		return false
	}
	dir, err := os.MkdirTemp(root, "banger-skips-")
	return err == nil && os.Remove(dir) == nil
}

func isOn(path string, filesystem int64) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == filesystem
}

// hasDefaultRoute reads the kernel's table of IPv4 routes, proc_net(5).
func hasDefaultRoute() bool {
	table, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 7 && fields[1] == "00000000" && fields[7] == "00000000" {
			return true
		}
	}
	return false
}

// hasSubIDs reports whether some user has subordinate ids, subuid(5).
func hasSubIDs() bool {
	ranges, err := os.ReadFile("/etc/subuid")
	return err == nil && strings.TrimSpace(string(ranges)) != ""
}
