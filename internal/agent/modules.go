package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// loadModules loads every *.ko of a directory in the order of their names. A
// module that fails doesn't keep the others from being tried.
func loadModules(dir string, log *slog.Logger) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.ko"))
	if err != nil {
		return err
	}
	var failed error
	for _, path := range paths {
		err := loadModule(path)
		if noDevice(err) {
			log.Debug("module left out", "err", err)
			continue
		}
		failed = errors.Join(failed, err)
	}
	log.Debug("modules loaded", "count", len(paths))
	return failed
}

// noDevice reports whether a module wasn't loaded because this machine lacks
// what it drives, such as KVM's clock under emulation: the modules are the same
// for every VM, and their virtio ones load without a device.
func noDevice(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP)
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", filepath.Base(path), err)
	}
	return nil
}

// keepModulesMounted keeps systemd from unmounting the modules as it stops other
// units: udevd, which stops at the same time, still has some of their files open.
// What is left is unmounted at the very end, when no process runs any more.
func keepModulesMounted(root *rootDir) error {
	where, err := root.resolve("/lib/modules")
	if err != nil {
		return err
	}
	return root.writeFile("/etc/systemd/system/"+mountUnit(where)+".d/banger.conf",
		[]byte("# Written by banger at every boot.\n[Unit]\nDefaultDependencies=no\n"), 0o644)
}

// mountUnit is how systemd calls the mount at a path, see systemd-escape(1).
func mountUnit(where string) string {
	var b strings.Builder
	for i, c := range []byte(strings.Trim(where, "/")) {
		switch plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == ':' || c == '_'; {
		case c == '/':
			b.WriteByte('-')
		case plain, c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String() + ".mount"
}
