package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// leastSettings are settings of the kernel that developers' tools need higher
// than it has them by default: those that watch files, databases, emulators.
// Debian images of ours have them in sysctl.d as well.
var leastSettings = map[string]uint64{
	"fs/inotify/max_user_instances": 8192,
	"fs/inotify/max_user_watches":   524288,
	"vm/max_map_count":              262144,
}

// How many files a process may have open at least: what it has by default, and
// what it may raise that to. The kernel's 1024 is there for programs that use
// select(2); 65536 is what watchers and servers need.
const (
	leastOpenFiles = 65536
	leastMostFiles = 1 << 20
)

// raiseLimits raises the kernel's settings in sysctl, a directory, and the
// number of files that this process may open, which sessions inherit. Nothing is
// lowered, and what an image sets itself comes later.
func raiseLimits(sysctl string) error {
	var errs []error
	for name, least := range leastSettings {
		errs = append(errs, raiseSetting(filepath.Join(sysctl, name), least))
	}
	return errors.Join(append(errs, raiseOpenFiles())...)
}

// stopTimeout is how long systemd waits for a service that stops, and then for
// what processes are left, such as a container's that is deaf to signals. The
// host ends a VM that takes more than 90 s to go down, systemd's default for each
// of the two.
const stopTimeout = 30 * time.Second

// setUnitDefaults tells systemd how many files services may have open, as it
// doesn't pass on what it inherits, and how long it waits for them. An image's
// own settings count.
func setUnitDefaults(root *rootDir) error {
	main, err := root.readFile("/etc/systemd/system.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	text := "# Written by banger at every boot.\n[Manager]\n"
	for _, setting := range []struct{ key, value string }{
		{"DefaultLimitNOFILE", fmt.Sprintf("%d:%d", leastOpenFiles, leastMostFiles)},
		{"DefaultTimeoutStopSec", fmt.Sprintf("%.0f", stopTimeout.Seconds())},
	} {
		own := strings.HasPrefix(string(main), setting.key) || strings.Contains(string(main), "\n"+setting.key)
		if !own {
			text += setting.key + "=" + setting.value + "\n"
		}
	}
	// Its name puts it before every other file of its kind.
	return root.writeFile("/run/systemd/system.conf.d/00-banger.conf", []byte(text), 0o644)
}

func raiseSetting(file string, least uint64) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil // this kernel can't
	}
	if err != nil {
		return err
	}
	now, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	if now >= least {
		return nil
	}
	return os.WriteFile(file, []byte(strconv.FormatUint(least, 10)), 0)
}

func raiseOpenFiles() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	// Go's runtime has raised the first to the second already, for itself alone:
	// only by setting it is it inherited.
	limit.Max = max(limit.Max, leastMostFiles)
	limit.Cur = leastOpenFiles
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("set the limit of open files: %w", err)
	}
	return nil
}
