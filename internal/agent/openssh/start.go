package openssh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// initSystem is what starts services in the guest.
type initSystem int

const (
	noInit initSystem = iota
	systemd
	openrc
)

func (t *try) initSystem() initSystem {
	switch {
	case t.Systemd:
		return systemd
	case t.exists("/run/openrc/softlevel"): // of the running system, rc(8)
		return openrc
	}
	return noInit
}

// start starts the server, or restarts it with the configuration that it now
// has, and has the init system do so at every boot.
func (t *try) start(ctx context.Context) error {
	var err error
	switch t.initSystem() {
	case systemd:
		err = t.startUnit(ctx)
	case openrc:
		err = errors.Join(t.run(ctx, []string{"rc-update", "add", "sshd", "default"}), t.run(ctx, []string{"rc-service", "sshd", "restart"}))
	case noInit:
		err = t.startAlone(ctx)
	}
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	return nil
}

// startUnit starts the unit of the server, which Debian calls ssh.
func (t *try) startUnit(ctx context.Context) error {
	for _, unit := range []string{"ssh.service", "sshd.service"} {
		for _, dir := range []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
			if !t.exists(filepath.Join(dir, unit)) {
				continue
			}
			if err := t.run(ctx, []string{"systemctl", "enable", unit}); err != nil {
				return err
			}
			// Without host keys it has failed before, maybe too often to be
			// started again. A unit that hasn't is no error worth a word.
			_ = t.run(ctx, []string{"systemctl", "reset-failed", unit})
			return t.run(ctx, []string{"systemctl", "restart", unit})
		}
	}
	return errors.New("the image's sshd has no systemd unit")
}

// started has the number of the boot in which startAlone has started the server.
// The kernel makes a new one at each.
const (
	started = "/run/banger-openssh-started"
	bootID  = "/proc/sys/kernel/random/boot_id"
)

// startAlone starts the server as a daemon, once per boot.
func (t *try) startAlone(ctx context.Context) error {
	boot, err := os.ReadFile(t.path(bootID))
	if err != nil {
		return err
	}
	if last, err := os.ReadFile(t.path(started)); err == nil && strings.TrimSpace(string(last)) == strings.TrimSpace(string(boot)) {
		return nil
	}
	// Where it gives up its rights, in Debian's builds; others don't mind.
	if err := os.MkdirAll(t.path("/run/sshd"), 0o755); err != nil {
		return err
	}
	if err := t.run(ctx, []string{t.server()}); err != nil {
		return err
	}
	return os.WriteFile(t.path(started), boot, 0o644)
}
