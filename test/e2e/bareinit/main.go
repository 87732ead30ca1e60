// Command bareinit is what the benchmark compares banger's boot with: the least
// that brings a kernel without built-in drivers to an image's init. It loads
// the modules, mounts the image below an overlay in memory, and executes init.
// A unit reports on the console when the system says that it has finished.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// report is started with the system and holds nothing up.
const report = `[Unit]
Description=Report the end of the boot
[Service]
Type=simple
ExecStart=/bin/sh -c 'systemctl is-system-running --wait >/dev/null; echo bare-boot-finished >/dev/ttyS0'
`

func main() {
	if err := boot(); err != nil {
		fmt.Fprintln(os.Stderr, "bareinit:", err)
		time.Sleep(time.Hour) // PID 1 must not end; the benchmark times out
	}
}

func boot() error {
	for _, m := range []struct{ kind, on string }{{"devtmpfs", "/dev"}, {"tmpfs", "/mnt"}} {
		if err := unix.Mount(m.kind, m.on, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.on, err)
		}
	}
	modules, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	slices.Sort(modules)
	for _, path := range modules {
		if err := load(path); err != nil {
			// Some drive what this machine lacks; a missing disk shows below.
			fmt.Fprintf(os.Stderr, "bareinit: load %s: %v\n", path, err)
		}
	}
	for _, dir := range []string{"/mnt/image", "/mnt/upper", "/mnt/work", "/mnt/root"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := mountRoot(); err != nil {
		return err
	}
	if err := os.WriteFile("/mnt/root/etc/systemd/system/report.service", []byte(report), 0o644); err != nil {
		return err
	}
	wants := "/mnt/root/etc/systemd/system/multi-user.target.wants"
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	if err := os.Symlink("../report.service", wants+"/report.service"); err != nil {
		return err
	}
	if err := os.Chdir("/mnt/root"); err != nil {
		return err
	}
	if err := unix.Mount("/mnt/root", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Exec("/sbin/init", []string{"/sbin/init"}, []string{"PATH=/usr/sbin:/usr/bin", "TERM=linux"})
}

// mountRoot waits for the disk, which the kernel finds in its own time.
func mountRoot() error {
	var err error
	for range 1000 {
		if err = unix.Mount("/dev/vda", "/mnt/image", "ext4", unix.MS_RDONLY, ""); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("mount the image: %w", err)
	}
	options := "lowerdir=/mnt/image,upperdir=/mnt/upper,workdir=/mnt/work"
	if err := unix.Mount("overlay", "/mnt/root", "overlay", 0, options); err != nil {
		return fmt.Errorf("mount the overlay: %w", err)
	}
	return nil
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}
