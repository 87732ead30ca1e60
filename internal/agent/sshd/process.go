package sshd

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"banger/internal/agent/cgroup"
)

// processSpec says what to start, and as whom.
type processSpec struct {
	path     string
	argv     []string
	env      []string
	dir      string // to start in; "" is the user's home, or / where that can't be entered
	user     *account
	terminal *terminal // its controlling terminal and its streams; nil for none
	groups   *cgroup.Tree
}

// process is a started command, the leader of a session and of a process group
// that both have its number.
type process struct {
	cmd   *exec.Cmd
	group *cgroup.Group // nil if it has none of its own

	mu   sync.Mutex
	done bool // reaped: the number may be another process's by now
}

// startProcess starts a command on three streams.
func startProcess(spec processSpec, stdin, stdout, stderr *os.File) (*process, error) {
	var err error
	group, _ := spec.groups.Command() // better in the agent's group than not at all
	dirs := []string{cmp.Or(spec.user.home, "/"), "/"}
	if spec.dir != "" {
		dirs = []string{spec.dir}
	}
	for _, dir := range dirs {
		cmd := &exec.Cmd{
			Path: spec.path, Args: spec.argv, Env: spec.env, Dir: dir,
			Stdin: stdin, Stdout: stdout, Stderr: stderr,
			SysProcAttr: spec.attributes(),
		}
		group.Attach(cmd.SysProcAttr)
		if err = startUnprotected(cmd); err == nil {
			return &process{cmd: cmd, group: group}, nil
		}
	}
	group.Close()
	return nil, err
}

func (spec processSpec) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Setsid:     true,
		Setctty:    spec.terminal != nil,
		Credential: spec.user.credential(),
	}
}

// startUnprotected starts a command without the protection against the
// kernel's OOM killer that this process has: an oom_score_adj is inherited.
// The command is stopped at its first instruction to change it, since what it
// forks before the change would keep the protection for ever.
func startUnprotected(cmd *exec.Cmd) error {
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil || string(bytes.TrimSpace(own)) == "0" {
		return cmd.Start()
	}
	// Only the thread that forked is the tracer.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr.Ptrace = true
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	if err := awaitStop(pid); err != nil {
		return errors.Join(err, cmd.Process.Release())
	}
	adjustErr := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("0"), 0)
	if err := unix.PtraceDetach(pid); err != nil {
		return errors.Join(fmt.Errorf("let the command run: %w", err), cmd.Process.Kill(), cmd.Wait())
	}
	if adjustErr != nil && !errors.Is(adjustErr, fs.ErrPermission) {
		return errors.Join(adjustErr, cmd.Process.Kill(), cmd.Wait())
	}
	return nil
}

// receiveIgnored replaces the ignoring of signals by receiving and dropping them.
// What a process ignores, as its parent may have told it to, its children ignore
// as well: commands would be deaf to a hang-up and to Ctrl-C, and a shell could
// not even reset that. What a process receives has its default effect on them.
func receiveIgnored() {
	for sig := syscall.Signal(1); sig < 32; sig++ {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}

// awaitStop waits for the trap that follows a traced process's execve.
func awaitStop(pid int) error {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for the command's first instruction: %w", err)
		case status.Stopped():
			return nil
		default:
			return errors.New("the command was killed at its first instruction")
		}
	}
}

// wait reaps the process and returns how it ended.
func (p *process) wait() syscall.WaitStatus {
	// Its error repeats the status: there are no streams to copy.
	_ = p.cmd.Wait()
	p.group.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
	status, _ := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status
}

// signal sends signals to the process group while its leader lives.
func (p *process) signal(signals ...syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return
	}
	for _, sig := range signals {
		_ = unix.Kill(-p.cmd.Process.Pid, sig) // it may end at any time
	}
}

// startFailure is the exit status that a shell gives to a command that can't be
// started: 127 where there is none, 126 otherwise.
func startFailure(err error) syscall.WaitStatus {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoShell) {
		return 127 << 8
	}
	return 126 << 8
}
