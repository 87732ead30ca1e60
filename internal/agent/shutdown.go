package agent

import (
	"context"
	"log/slog"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// Signals to systemd as PID 1, systemd(1): SIGRTMIN+4 and +5, where libc's
// SIGRTMIN is 34.
const (
	systemdPowerOff = unix.Signal(34 + 4)
	systemdReboot   = unix.Signal(34 + 5)
)

// killGrace is how long processes have between SIGTERM and SIGKILL.
const killGrace = 2 * time.Second

// commandGrace is how long the commands of sessions, and what they have left
// running, may take to end when the guest goes down.
const commandGrace = 5 * time.Second

// initTimeout is how long an init system may take to accept the request.
const initTimeout = 20 * time.Second

// shutDown makes the guest go down in the way of its init system.
func shutDown(systemd bool, init string, reset bool, log *slog.Logger) {
	switch {
	case systemd:
		sig := systemdPowerOff
		if reset {
			sig = systemdReboot
		}
		err := unix.Kill(1, sig)
		if err == nil {
			return
		}
		log.Error("ask systemd to shut down", "err", err)
	case init != "":
		name := "poweroff"
		if reset {
			name = "reboot"
		}
		ctx, cancel := context.WithTimeout(context.Background(), initTimeout)
		defer cancel()
		err := exec.CommandContext(ctx, name).Run()
		if err == nil {
			return
		}
		log.Error("ask the init system to shut down", "err", err)
	}
	// kill(-1) spares this process and PID 1. Sessions end with this.
	_ = unix.Kill(-1, unix.SIGTERM)
	time.Sleep(killGrace)
	resetMachine(reset, log)
}

// resetMachine resets the machine or powers it off, with the filesystems in
// order but without asking anybody.
func resetMachine(reset bool, log *slog.Logger) {
	unix.Sync()
	how := unix.LINUX_REBOOT_CMD_POWER_OFF
	if reset {
		how = unix.LINUX_REBOOT_CMD_RESTART
	}
	log.Error("reboot", "err", unix.Reboot(how)) // doesn't return if it works
}
