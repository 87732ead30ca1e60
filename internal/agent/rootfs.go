package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"banger/internal/guest"
)

// Where the initramfs mounts things on the way to the root filesystem.
const (
	imageMount = "/image"
	diskMount  = "/disk"
	newRoot    = "/root"
)

// What is on the VM's disk.
const (
	diskUpper = "upper" // overlayfs: what was written over the image
	diskWork  = "work"  // overlayfs: its workspace
	diskReal  = "real"  // directories bound into the root, by mountName
	diskRoot  = "root"  // in place of these three: all of the root, a copy of the image
	diskGiven = "given" // a file: the list that rememberGiven keeps
)

// rootMode is the mode of a root directory.
const rootMode = 0o755

// mountRoot mounts image, disk and the root made of both at newRoot. firstBoot
// tells that the disk was blank.
func mountRoot(config guest.BootConfig) (firstBoot bool, err error) {
	if err := mountDevice(config.ImageDevice, imageMount, true); err != nil {
		return false, err
	}
	if err := mountDevice(config.DiskDevice, diskMount, false); err != nil {
		return false, err
	}
	if config.RealRoot {
		return mountCopy()
	}
	return mountOverlay()
}

// mountCopy makes the root a copy of the image on the disk.
func mountCopy() (firstBoot bool, err error) {
	root := filepath.Join(diskMount, diskRoot)
	_, err = os.Stat(root)
	firstBoot = errors.Is(err, fs.ErrNotExist)
	if err := seed(imageMount, root); err != nil {
		return false, err
	}
	if err := os.MkdirAll(newRoot, rootMode); err != nil {
		return false, err
	}
	if err := unix.Mount(root, newRoot, "", unix.MS_BIND, ""); err != nil {
		return false, fmt.Errorf("mount the copy of the image: %w", err)
	}
	return firstBoot, nil
}

// mountOverlay makes the root of the image and, over it, the disk.
func mountOverlay() (firstBoot bool, err error) {
	upper, work := filepath.Join(diskMount, diskUpper), filepath.Join(diskMount, diskWork)
	_, err = os.Stat(upper)
	firstBoot = errors.Is(err, fs.ErrNotExist)
	for dir, mode := range map[string]fs.FileMode{
		upper: rootMode, work: 0o700, filepath.Join(diskMount, diskReal): 0o700, newRoot: rootMode,
	} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return false, err
		}
	}
	// redirect_dir lets directories of the image be renamed; the other
	// features would tie the disk to one copy of the image.
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=on,index=off,metacopy=off", imageMount, upper, work)
	if err := unix.Mount("overlay", newRoot, "overlay", unix.MS_NOATIME, options); err != nil {
		return false, fmt.Errorf("mount the disk over the image: %w", err)
	}
	return firstBoot, nil
}

// mountModules makes the kernel's modules visible at /lib/modules.
func mountModules(root *rootDir, serial string) error {
	const staging = "/modules-device"
	if err := mountDevice(serial, staging, true); err != nil {
		return err
	}
	target, err := root.mkdirAll("/lib/modules", 0o755)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := unix.Mount(staging, fdPath(target), "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("mount /lib/modules: %w", err)
	}
	return nil
}

// moveMounts moves the kernel's filesystems into the root and hides those that
// only the root itself needs.
func moveMounts(root *rootDir) error {
	for _, dir := range []string{"/dev", "/sys", "/proc"} { // /proc last: fdPath needs it
		target, err := root.mkdirAll(dir, 0o755)
		if err != nil {
			return err
		}
		err = unix.Mount(dir, fdPath(target), "", unix.MS_MOVE, "")
		_ = target.Close()
		if err != nil {
			return fmt.Errorf("move %s into the root: %w", dir, err)
		}
	}
	for _, dir := range []string{imageMount, diskMount} {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("detach %s: %w", dir, err)
		}
	}
	return nil
}

// bootedRoot is a root filesystem that is ready to be switched to.
type bootedRoot struct {
	dir      string
	runtime  runtime
	warnings []string // a line each, for the host's user
}

// bootRoot does all that Boot asks for.
func bootRoot(config guest.BootConfig, log *slog.Logger) (bootedRoot, error) {
	var none bootedRoot
	if err := setUpKernel(config, log); err != nil {
		return none, err
	}
	if err := setUpNetwork(config); err != nil {
		return none, err
	}
	firstBoot, err := mountRoot(config)
	if err != nil {
		return none, err
	}
	root, err := openRootDir(newRoot)
	if err != nil {
		return none, err
	}
	defer root.Close()
	if config.SwapDevice != "" {
		if err := swapTo(config.SwapDevice); err != nil {
			return none, err
		}
	}
	var realDirs []string
	if !config.RealRoot {
		if realDirs, err = bindDirs(root, config.RealDirs); err != nil {
			return none, err
		}
	}
	if config.ModulesDevice != "" {
		if err := mountModules(root, config.ModulesDevice); err != nil {
			return none, err
		}
	}
	if err := makeWorkDir(root, config.WorkDir); err != nil {
		return none, err
	}
	init := findInit(root)
	r := runtime{
		Init: init, Systemd: isSystemd(root, init),
		AuthorizedKeys: config.AuthorizedKeys, HostKey: config.HostKey, Env: config.Env,
		RealDirs: realDirs, InstallSSH: config.InstallSSH,
	}
	if r.Given, err = rememberGiven(root, filepath.Join(diskMount, diskGiven), config); err != nil {
		return none, err
	}
	if err := writeIdentity(root, config, r.Systemd, firstBoot); err != nil {
		return none, err
	}
	if r.Systemd && config.ModulesDevice != "" {
		if err := keepModulesMounted(root); err != nil {
			return none, fmt.Errorf("write a unit into the guest: %w", err)
		}
	}
	warnings := writeFiles(root, config.Files)
	if err := r.check(); err != nil {
		return none, err
	}
	if init == "" || r.Systemd { // which leaves what is mounted there
		if err := mountIn(root, "/run", "tmpfs", runOptions); err != nil {
			return none, err
		}
	}
	if r.Systemd {
		if err := setUnitDefaults(root); err != nil {
			return none, err
		}
	}
	if err := moveMounts(root); err != nil {
		return none, err
	}
	if err := trust(root, config.CACerts, runIn(newRoot)); err != nil {
		warnings = append(warnings, fmt.Sprintf("the guest may not trust all of the host's certificate authorities: %v", err))
	}
	if init == "" { // as an init would
		if err := unix.Mount("cgroup2", filepath.Join(newRoot, "sys/fs/cgroup"), "cgroup2", unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
			return none, fmt.Errorf("mount the control groups: %w", err)
		}
	}
	return bootedRoot{newRoot, r, append(warnings, protect(root, config.ReadOnly)...)}, nil
}

// runOptions are those with which systemd mounts /run.
const runOptions = "mode=0755,size=20%,nr_inodes=800k"

// makeWorkDir makes an image's working directory, which needn't be there: a
// container's would be made as well.
func makeWorkDir(root *rootDir, dir string) error {
	if dir == "" {
		return nil
	}
	f, err := root.mkdirAll(dir, 0o755)
	if err != nil {
		return fmt.Errorf("make the working directory %s: %w", dir, err)
	}
	return f.Close()
}

// mountIn mounts a memory filesystem on a directory of the root.
func mountIn(root *rootDir, dir, kind, data string) error {
	target, err := root.mkdirAll(dir, 0o755)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := unix.Mount(kind, fdPath(target), kind, unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return nil
}
