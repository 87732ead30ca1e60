package firecracker

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/undo"
	"banger/internal/vmm"
)

// JailerMode says whether VMMs are started by Firecracker's jailer, which
// gives each of them a user, a root directory and a control group of its own.
type JailerMode string

// Modes of the jailer.
const (
	JailerAuto JailerMode = "auto" // where it can be used: as root, with a jailer beside Firecracker
	JailerOn   JailerMode = "on"   // always; a VM that can't be jailed doesn't start
	JailerOff  JailerMode = "off"
)

// Jailer says how a Driver uses Firecracker's jailer. It must be of the same
// release as Firecracker.
type Jailer struct {
	Mode   JailerMode // "" is JailerOff
	Binary string     // absolute; empty: not found, see FindJailer

	// Rootless says that this process is root in a user namespace only.
	Rootless bool
}

// FindJailer returns the absolute path of the jailer that belongs to a
// Firecracker, or "" if there is none: a release has both in one directory,
// firecracker-v1.16.1-x86_64 beside jailer-v1.16.1-x86_64.
func FindJailer(firecracker string) string {
	resolved, err := filepath.EvalSymlinks(firecracker)
	if err != nil {
		return ""
	}
	beside := filepath.Join(filepath.Dir(resolved), strings.Replace(filepath.Base(resolved), Name, "jailer", 1))
	if path, err := exec.LookPath(beside); err == nil && beside != resolved {
		return path
	}
	return ""
}

// wanted tells whether a VM is to be jailed. In mode on it returns an error
// instead of false.
func (j Jailer) wanted(spec vmm.Spec, log *slog.Logger) (bool, error) {
	if j.Mode == JailerOff || j.Mode == "" {
		return false, nil
	}
	obstacle := j.obstacle(spec)
	switch {
	case obstacle == nil:
		return true, nil
	case j.Mode == JailerOn:
		return false, api.Errorf(api.CodeHost, "the VM can't be jailed: %v", obstacle).
			WithHint("remove the obstacle, or set jailer = \"auto\" in config.toml")
	}
	level := slog.LevelDebug
	if os.Geteuid() == 0 && !j.Rootless { // root can do something about it
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, "the VM runs without a jail", "vm", spec.Name, "reason", obstacle)
	return false, nil
}

// obstacle returns why a VM can't be jailed, or nil.
func (j Jailer) obstacle(spec vmm.Spec) error {
	if os.Geteuid() != 0 || j.Rootless {
		return errors.New("the jailer needs the host's root")
	}
	if j.Binary == "" {
		return errors.New("there is no jailer beside Firecracker")
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(spec.StateDir, &stat); err != nil {
		return fmt.Errorf("look at the filesystem of %s: %w", spec.StateDir, err)
	}
	if stat.Flags&(unix.ST_NODEV|unix.ST_NOEXEC) != 0 {
		return fmt.Errorf("%s is on a filesystem mounted nodev or noexec", spec.StateDir)
	}
	return readable(spec)
}

// readable checks that a jailed Firecracker, whose user owns nothing, can read
// what VMs share.
func readable(spec vmm.Spec) error {
	for _, path := range sharedFiles(spec) {
		info, err := os.Stat(path)
		if err != nil {
			continue // Firecracker says what is wrong with the file
		}
		if info.Mode()&0o004 == 0 {
			return fmt.Errorf("%s isn't readable for all users", path)
		}
	}
	return nil
}

func sharedFiles(spec vmm.Spec) []string {
	files := []string{spec.Kernel, spec.Initramfs}
	for _, drive := range spec.Drives {
		if drive.ReadOnly {
			files = append(files, drive.Path)
		}
	}
	return files
}

// firstUID begins the range of the jails' user ids: 0x70000000 to 0x7fffffff,
// which no system hands out (https://systemd.io/UIDS-GIDS/).
const firstUID = 0x70000000

// jailUID returns the user and group id of a VM's jail. It follows from the
// VM's id, so that nothing needs to be stored; two of a hundred VMs share one
// with a probability of 1 in 50,000.
func jailUID(id string) int {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(id)) // never fails, see hash.Hash
	return firstUID + int(hash.Sum32()&0x0fffffff)
}

// prepareJail makes a jail with the VM's files in it. The jailer makes the
// rest.
func (d *Driver) prepareJail(spec vmm.Spec, id string, steps *undo.Stack) (place, error) {
	binary, err := filepath.EvalSymlinks(d.config.Binary)
	if err != nil {
		return place{}, fmt.Errorf("find Firecracker: %w", err)
	}
	base := jailsDir(spec)
	j := &jail{root: filepath.Join(base, filepath.Base(binary), id, "root"), uid: jailUID(spec.ID)}
	if err := os.MkdirAll(j.root, 0o700); err != nil {
		return place{}, fmt.Errorf("create jail: %w", err)
	}
	steps.Add("remove the jail", j.undo(spec))
	if spec.NIC.Tap != "" {
		if err := giveTap(spec.NIC.Tap, j.uid); err != nil {
			return place{}, err
		}
	}
	view, err := j.furnish(spec)
	if err != nil {
		return place{}, err
	}
	jailer := []string{
		"--id", id, "--exec-file", binary,
		"--uid", fmt.Sprint(j.uid), "--gid", fmt.Sprint(j.uid),
		"--chroot-base-dir", base,
	}
	limits, err := cgroupArgs(spec)
	if err != nil {
		d.config.Log.Warn("the VM runs without a control group", "vm", spec.Name, "reason", err)
	}
	jailer = append(append(jailer, limits...), "--")
	return place{
		id: id, dir: j.root, logs: j.root, jail: j, view: view,
		command: vmm.Command{
			Path: d.config.Jailer.Binary, Args: append(jailer, jailedArgs("/")...),
			Dir: spec.RuntimeDir, Log: spec.Console, MaxFile: vmm.LargestFile(spec),
		},
	}, nil
}
