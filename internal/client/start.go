package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/daemonlog"
	"banger/internal/filelock"
)

const (
	// startTimeout is how long a bangerd may take until it answers. Adopting
	// many VMs takes time.
	startTimeout = time.Minute
	// The first and the longest pause between two looks at the socket.
	firstPause, longestPause = 5 * time.Millisecond, 250 * time.Millisecond
)

// isNotListening recognises a socket that is missing, or was left behind by a
// killed daemon.
func isNotListening(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)
}

// Start starts bangerd unless one answers, and returns when it does. Any
// number of processes may call it at once; one daemon is started.
func (c *Client) Start(ctx context.Context) error {
	for _, dir := range []string{c.layout.Runtime, c.layout.State} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return api.Errorf(api.CodeHost, "create banger's directories: %v", err)
		}
	}
	unlock, err := c.lockStart(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if c.answers(ctx) {
		return nil // somebody else has started it meanwhile
	}
	log, from, err := openLog(c.layout.DaemonLog())
	if err != nil {
		return api.Errorf(api.CodeHost, "open bangerd's log: %v", err)
	}
	defer log.Close()
	exited, err := c.spawn(log)
	if err != nil {
		return err
	}
	return c.awaitStart(ctx, exited, from)
}

// lockStart waits for the lock that makes starts one after the other.
func (c *Client) lockStart(ctx context.Context) (unlock func(), err error) {
	limited, cancel := context.WithTimeoutCause(ctx, startTimeout,
		api.Errorf(api.CodeDaemon, "another banger has been starting bangerd for %v", startTimeout).
			WithHint("see %s", c.layout.DaemonLog()))
	defer cancel()
	f, err := filelock.Acquire(limited, filepath.Join(c.layout.Runtime, "start.lock"))
	switch {
	case err == nil:
		return func() { f.Close() }, nil
	case limited.Err() != nil:
		return nil, c.explain(ctx, err)
	}
	return nil, api.Errorf(api.CodeHost, "take the start lock: %v", err)
}

// answers reports whether a bangerd listens.
func (c *Client) answers(ctx context.Context) bool {
	conn, err := c.connect(ctx)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// openLog opens the daemon's log for appending, after putting a large one
// aside so that bangerd needn't while it starts, and returns where the coming
// start's lines begin.
func openLog(path string) (log *os.File, from int64, err error) {
	if info, err := os.Stat(path); err == nil && info.Size() > daemonlog.MaxSize/2 {
		if err := os.Rename(path, daemonlog.Previous(path)); err != nil {
			return nil, 0, err
		}
	}
	log, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	from, err = log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, errors.Join(err, log.Close())
	}
	return log, from, nil
}

// spawn runs bangerd detached from this process's session. The channel
// receives how it ended, if it ends while this process lives.
func (c *Client) spawn(log *os.File) (<-chan error, error) {
	path, err := c.findDaemon()
	if err != nil {
		return nil, err
	}
	env := os.Environ()
	if home := os.Getenv("BANGER_HOME"); home != "" {
		// It may be relative to this process's directory.
		if home, err = filepath.Abs(home); err != nil {
			return nil, fmt.Errorf("resolve BANGER_HOME: %w", err)
		}
		env = append(env, "BANGER_HOME="+home)
	}
	// A caller's pipe that the daemon inherited would never see its end.
	// ENOSYS before Linux 5.11 costs only this nicety.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)

	cmd := exec.Command(path) //nolint:noctx // it outlives every context of this process
	cmd.Env = env
	cmd.Dir = "/" // or the directory couldn't be unmounted
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, api.Errorf(api.CodeDaemon, "start bangerd: %v", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	return exited, nil
}

// findDaemon returns the bangerd that belongs to this program.
func (c *Client) findDaemon() (string, error) {
	if c.executable != "" {
		return c.executable, nil
	}
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			beside := filepath.Join(filepath.Dir(self), "bangerd")
			if info, err := os.Stat(beside); err == nil && !info.IsDir() {
				return beside, nil
			}
		}
	}
	path, err := exec.LookPath("bangerd")
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return "", api.Errorf(api.CodeDaemon, "bangerd is neither beside banger nor on PATH").
			WithHint("install both with: make install")
	}
	if err != nil {
		return "", api.Errorf(api.CodeDaemon, "find bangerd: %v", err)
	}
	return path, nil
}

// awaitStart waits until the spawned bangerd answers or has ended.
func (c *Client) awaitStart(ctx context.Context, exited <-chan error, from int64) error {
	ok, err := poll(ctx, startTimeout, func() (bool, error) {
		// Ended first, then the socket: one that found another bangerd running
		// ends, and that other one answers.
		select {
		case cause := <-exited:
			if c.answers(ctx) {
				return true, nil
			}
			return false, c.startError(cause, from)
		default:
			return c.answers(ctx), nil
		}
	})
	if err != nil {
		return c.explain(ctx, err)
	}
	if !ok {
		return api.Errorf(api.CodeDaemon, "bangerd has not answered for %v", startTimeout).
			WithHint("see %s", c.layout.DaemonLog())
	}
	return nil
}

// poll calls done, with growing pauses, until it returns true or an error, or
// limit has passed (false, nil), or ctx ends.
func poll(ctx context.Context, limit time.Duration, done func() (bool, error)) (bool, error) {
	deadline := time.Now().Add(limit)
	for pause := firstPause; ; pause = min(pause*3/2, longestPause) {
		ok, err := done()
		if ok || err != nil {
			return ok, err
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(pause):
		}
	}
}
