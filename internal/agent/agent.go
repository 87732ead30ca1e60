// Package agent is banger's program inside a guest. One binary plays three
// parts:
//
//   - PID 1 of the initramfs: it loads modules, waits for the host's Boot call,
//     makes the root filesystem and becomes the image's init (or stays, if the
//     image has none).
//   - The supervisor: forked by PID 1 on the way, it restarts the worker.
//   - The worker: it serves SSH and the control calls while the guest runs.
//
// Package guest defines the conversation with the host.
package agent

import (
	"fmt"
	"log/slog"
	"os"

	"banger/internal/agent/sshd"
)

// The arguments that choose a part. PID 1 gets none from the kernel.
const (
	partSupervisor = "supervise"
	partWorker     = "work"
	partSFTP       = "sftp"
)

// processName is argv[0] of supervisor and worker. systemd leaves processes
// whose name begins with @ alone when it ends all others at shutdown
// (https://systemd.io/ROOT_STORAGE_DAEMONS/), so that the host can talk to the
// guest to the last.
const processName = "@banger-agent"

// selfExe is this program, also after the initramfs has been emptied.
const selfExe = "/proc/self/exe"

// Main plays the part that the process was started for and returns its exit
// status.
func Main(args []string, version string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := keepDescriptors()
	switch {
	case err != nil:
	case os.Getpid() == 1:
		err = runInit(log, version)
	case len(args) == 2 && args[1] == partSupervisor:
		err = supervise(log)
	case len(args) == 2 && args[1] == partWorker:
		err = work(log, version)
	case len(args) == 2 && args[1] == partSFTP:
		err = sshd.ServeSFTP(os.Stdin, os.Stdout)
	default:
		err = fmt.Errorf("%s runs as PID 1 of a banger VM; there is nothing else to do with it (except -version)", args[0])
	}
	if err != nil {
		log.Error("banger agent", "err", err)
		return 1
	}
	return 0
}
