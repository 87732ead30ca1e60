package agent

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"banger/internal/agent/cgroup"
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
	notified, err := readNotifications(os.NewFile(notifyFD, "notify"), log)
	if err != nil {
		return err
	}
	given := []*os.File{os.NewFile(runtimeFD, "runtime"), nil} // by number, from 3 on
	if groups := cgroup.Inherited(groupsFD); groups != nil {
		given = append(given, groups.File())
	}
	pause := restartFirst
	for {
		began := time.Now()
		err := runWorker(given, notified)
		if time.Since(began) > steadyRun {
			pause = restartFirst
		}
		log.Error("the agent's worker ended; it is restarted", "err", err, "pause", pause)
		time.Sleep(pause)
		pause = min(2*pause, restartLast)
	}
}

// runWorker runs one worker to its end. It is given a pipe that ends when the
// system has booted.
func runWorker(given []*os.File, notified *notifications) error {
	booted, end, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("run worker: %w", err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go notified.tell(end, ended)
	given[bootedFD-runtimeFD] = booted
	cmd := &exec.Cmd{
		Path: selfExe, Args: []string{processName, partWorker}, Dir: "/", Env: os.Environ(),
		Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: given,
	}
	err = cmd.Start()
	_ = booted.Close()
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("run worker: %w", err)
	}
	return nil
}
