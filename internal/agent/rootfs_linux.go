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

// Directories on the VM's disk.
const (
	diskUpper = "upper" // overlayfs: what was written over the image
	diskWork  = "work"  // overlayfs: its workspace
	diskReal  = "real"  // directories bound into the root, by mountName
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

// bindRealDirs gives directories of the root a real filesystem below: that of
// the disk, seeded with what the root has there.
func bindRealDirs(root *rootDir, dirs []string) error {
	for _, dir := range dirs {
		if err := bindRealDir(root, dir); err != nil {
			return fmt.Errorf("put %s on the disk: %w", dir, err)
		}
	}
	return nil
}

func bindRealDir(root *rootDir, dir string) error {
	mode := fs.FileMode(0o755)
	if dir == "/root" {
		mode = 0o700
	}
	target, err := root.mkdirAll(dir, mode)
	if err != nil {
		return err
	}
	defer target.Close()
	resolved, err := root.resolve(dir)
	if err != nil {
		return err
	}
	source := filepath.Join(diskMount, diskReal, mountName(resolved))
	if err := seed(filepath.Join(newRoot, resolved), source); err != nil {
		return err
	}
	if err := unix.Mount(source, fdPath(target), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount: %w", err)
	}
	return nil
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

// findInit returns the path of the image's init, "" if it has none.
func findInit(root *rootDir) string {
	for _, name := range []string{"/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/etc/init", "/bin/init"} {
		f, err := root.open(name, unix.O_PATH, 0)
		if err != nil {
			continue
		}
		info, err := f.Stat()
		_ = f.Close()
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return name
		}
	}
	return ""
}

// isSystemd tells whether an init, perhaps a symlink, is systemd.
func isSystemd(root *rootDir, init string) bool {
	resolved, err := root.resolve(init)
	return err == nil && init != "" && filepath.Base(resolved) == "systemd"
}

// bootedRoot is a root filesystem that is ready to be switched to.
type bootedRoot struct {
	dir     string
	runtime runtime
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
	if err := bindRealDirs(root, config.RealDirs); err != nil {
		return none, err
	}
	if config.ModulesDevice != "" {
		if err := mountModules(root, config.ModulesDevice); err != nil {
			return none, err
		}
	}
	init := findInit(root)
	r := runtime{
		Init: init, Systemd: isSystemd(root, init),
		AuthorizedKeys: config.AuthorizedKeys, HostKey: config.HostKey, Env: config.Env,
	}
	if err := writeIdentity(root, config, r.Systemd, firstBoot); err != nil {
		return none, err
	}
	if err := r.check(); err != nil {
		return none, err
	}
	if err := moveMounts(root); err != nil {
		return none, err
	}
	if init == "" {
		if err := mountWithoutInit(newRoot); err != nil {
			return none, err
		}
	}
	return bootedRoot{newRoot, r}, nil
}

// mountWithoutInit mounts what an init would have.
func mountWithoutInit(root string) error {
	for _, m := range []struct{ target, kind, data string }{
		{"/run", "tmpfs", "mode=0755"},
		{"/sys/fs/cgroup", "cgroup2", ""},
	} {
		target := filepath.Join(root, m.target)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, target, m.kind, unix.MS_NOSUID|unix.MS_NODEV, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}
