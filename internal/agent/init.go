package agent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guest"
)

// modulesDir has the kernel modules of the initramfs.
const modulesDir = "/modules"

// handOverWait is how long the host may take to read the reply to Boot before
// the line is given to the worker.
const handOverWait = 3 * time.Second

// runInit is PID 1 of the initramfs. It returns only if the machine is lost.
func runInit(log *slog.Logger, version string) error {
	started := uptime()
	unix.Umask(0o022)
	if err := mountEarly(); err != nil {
		return err
	}
	if err := useConsole(); err != nil {
		log.Warn("open console", "err", err)
	}
	if err := loadModules(modulesDir, log); err != nil {
		log.Error("load modules", "err", err) // perhaps the transport works all the same
	}
	transports, err := openTransports(log)
	if err != nil {
		return err
	}
	c := &initControl{
		log: log, version: version, started: started,
		stopListening: transports.stopListening, booted: make(chan bootedRoot, 1),
	}
	if err := transports.serve(guest.PortControl, func(conn net.Conn) { serveControl(conn, c.handlers(), log) }); err != nil {
		return err
	}
	root := <-c.booted
	transports.close()
	supervisor, err := startSupervisor(root, log)
	if err != nil {
		return err
	}
	if err := switchRoot(root.dir); err != nil {
		return err
	}
	if root.runtime.Init == "" {
		return reap(supervisor, log)
	}
	return execInit(root.runtime.Init, root.runtime.Systemd)
}

// initControl answers control calls before the root filesystem is there.
type initControl struct {
	log     *slog.Logger
	version string
	started time.Duration
	asked   once
	// stopListening makes the host's further calls wait for the worker.
	stopListening func()
	booted        chan bootedRoot
}

func (c *initControl) handlers() handlers {
	return handlers{
		guest.CallHealth: func(*call) (any, error) {
			return guest.Health{Version: c.version, Stage: guest.StageInitramfs, Uptime: uptime()}, nil
		},
		guest.CallBoot: c.boot,
		guest.CallShutdown: func(r *call) (any, error) {
			var p guest.ShutdownParams
			if err := r.params(&p); err != nil {
				return nil, err
			}
			r.after = func() { resetMachine(p.Reset, c.log) }
			return nil, nil
		},
	}
}

// boot handles the call that makes the guest a particular VM.
func (c *initControl) boot(r *call) (any, error) {
	var config guest.BootConfig
	if err := r.params(&config); err != nil {
		return nil, err
	}
	if !c.asked.first() {
		return nil, errors.New("this guest has been told to boot before; reset it first")
	}
	root, err := bootRoot(config, c.log)
	if err != nil {
		c.log.Error("boot", "err", err)
		return nil, err
	}
	c.stopListening()
	// The line changes hands as soon as the host has the reply, which it
	// shows by closing the connection.
	r.after = func() {
		_ = r.conn.SetReadDeadline(time.Now().Add(handOverWait))
		_, _ = r.conn.Read(make([]byte, 1))
		c.booted <- root
	}
	return guest.BootResult{Init: root.runtime.Init, Started: c.started, Booted: uptime(), Warnings: root.warnings}, nil
}

// mountEarly mounts what everything else needs.
func mountEarly() error {
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("make mount point: %w", err)
		}
		// The kernel mounts devtmpfs by itself if it was built to.
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// useConsole makes the console this process's standard files, which it is not
// when the initramfs came without a /dev/console.
func useConsole() error {
	console, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(console)
	for fd := range 3 {
		if err := unix.Dup2(console, fd); err != nil {
			return err
		}
	}
	return nil
}

// uptime is the time since the kernel started.
func uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// drain reads r to its end.
func drain(r io.Reader) { _, _ = io.Copy(io.Discard, r) }
