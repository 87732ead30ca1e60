package agent

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// The pause before a worker is restarted grows from the first to the second
// value while workers keep ending quickly.
const (
	restartFirst = 100 * time.Millisecond
	restartLast  = 5 * time.Second
)

// steadyRun is how long a worker must run for its end to count as a new
// problem.
const steadyRun = time.Minute

// supervise restarts the worker for ever.
func supervise(log *slog.Logger) error {
	// Received and dropped rather than ignored: what is ignored stays so in the
	// worker and in every process that it starts.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	memory, notify := os.NewFile(runtimeFD, "runtime"), os.NewFile(notifyFD, "notify")
	pause := restartFirst
	for {
		began := time.Now()
		err := runWorker(memory, notify)
		if time.Since(began) > steadyRun {
			pause = restartFirst
		}
		log.Error("the agent's worker ended; it is restarted", "err", err, "pause", pause)
		time.Sleep(pause)
		pause = min(2*pause, restartLast)
	}
}

func runWorker(memory, notify *os.File) error {
	cmd := &exec.Cmd{
		Path: selfExe, Args: []string{processName, partWorker}, Dir: "/", Env: os.Environ(),
		Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: []*os.File{memory, notify},
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run worker: %w", err)
	}
	return nil
}
