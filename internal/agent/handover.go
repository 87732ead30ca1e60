package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/agent/cgroup"
)

// notifyAddress is where systemd reports the end of the boot, sd_notify(3): an
// abstract socket, so it exists in every root.
const notifyAddress = "@banger/notify"

// oomNever keeps the kernel from choosing a process when memory runs out, see
// proc_pid_oom_score_adj(5).
const (
	oomNever  = -1000
	oomNormal = 0
)

// defaultPath is where programs are looked for unless the image says otherwise.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// startSupervisor starts the supervisor inside the new root. It runs from the
// deleted file of the initramfs, and so keeps no filesystem busy at shutdown.
func startSupervisor(root bootedRoot, log *slog.Logger) (*os.Process, error) {
	memory, err := root.runtime.save()
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notifyAddress, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen for systemd: %w", err)
	}
	notify, err := socket.File()
	_ = socket.Close()
	if err != nil {
		return nil, fmt.Errorf("listen for systemd: %w", err)
	}
	defer notify.Close()
	null, err := os.Open(filepath.Join(root.dir, "dev/null")) // /dev has moved there
	if err != nil {
		return nil, err
	}
	defer null.Close()
	groups, err := cgroup.Create()
	if err != nil {
		log.Error("the agent gets no control groups", "err", err) // it works without
	}
	cmd := &exec.Cmd{
		Path: selfExe, Args: []string{processName, partSupervisor}, Dir: "/",
		Stdin:      null,
		Env:        []string{"PATH=" + defaultPath},
		Stdout:     os.Stdout,
		Stderr:     os.Stderr,
		ExtraFiles: []*os.File{memory, notify},
		SysProcAttr: &syscall.SysProcAttr{
			Chroot: root.dir,
			Setsid: true, // a Ctrl-C on the console isn't for it
		},
	}
	if groups != nil {
		defer groups.File().Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, groups.File())
		group, err := groups.Agent()
		if err != nil {
			return nil, err
		}
		defer group.Close()
		group.Attach(cmd.SysProcAttr)
	}
	if err := setOOM(oomNever); err != nil {
		return nil, err
	}
	err = cmd.Start()
	if err := setOOM(oomNormal); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("start the agent's supervisor: %w", err)
	}
	return cmd.Process, nil
}

// setOOM sets this process's chance to be ended when memory runs out. Children
// inherit it.
func setOOM(adjust int) error {
	for _, proc := range []string{"/proc", filepath.Join(newRoot, "proc")} {
		err := os.WriteFile(filepath.Join(proc, "self/oom_score_adj"), []byte(strconv.Itoa(adjust)), 0)
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return errors.New("set the out-of-memory score: there is no /proc")
}

// switchRoot makes dir the root of this process and of the mount namespace, and
// frees the memory that the initramfs takes.
func switchRoot(dir string) error {
	if err := emptyInitramfs("/"); err != nil {
		return err
	}
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the new root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	return unix.Chdir("/")
}

// emptyInitramfs deletes everything on the filesystem of a directory, but
// nothing on others mounted below it.
func emptyInitramfs(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at the initramfs: %w", err)
	}
	if st.Type != unix.RAMFS_MAGIC && st.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("empty the initramfs: %s is no memory filesystem (%#x)", dir, st.Type)
	}
	var dev unix.Stat_t
	if err := unix.Lstat(dir, &dev); err != nil {
		return fmt.Errorf("look at the initramfs: %w", err)
	}
	removeBelow(dir, dev.Dev)
	return nil
}

// removeBelow deletes what it can; a leftover only costs its memory.
func removeBelow(dir string, dev uint64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil || st.Dev != dev {
			continue
		}
		if entry.IsDir() {
			removeBelow(path, dev)
		}
		_ = os.Remove(path)
	}
}

// execInit becomes the image's init.
func execInit(path string, systemd bool) error {
	env := []string{"HOME=/", "TERM=linux", "PATH=" + defaultPath}
	if systemd { // others would hand it to every service
		env = append(env, "NOTIFY_SOCKET="+notifyAddress)
	}
	if err := syscall.Exec(path, []string{path}, env); err != nil {
		return fmt.Errorf("execute %s: %w", path, err)
	}
	return nil
}

// reap is PID 1 of an image without an init: it collects ended processes and
// starts the supervisor's successor if that ever ends.
func reap(supervisor *os.Process, log *slog.Logger) error {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECHILD):
			time.Sleep(time.Second) // cannot be as long as there is a supervisor
		case err != nil:
			return fmt.Errorf("wait for processes: %w", err)
		case pid == supervisor.Pid:
			log.Error("the agent's supervisor ended", "status", status)
			resetMachine(true, log)
		}
	}
}
