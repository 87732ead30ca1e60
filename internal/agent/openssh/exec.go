package openssh

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"syscall"
	"time"

	"banger/internal/agent/cgroup"
)

// outputGrace is how long the output of a program that has ended is waited for:
// a service that it started may hold on to it for ever.
const outputGrace = 2 * time.Second

// Exec runs a program to its end, in a session and, where there are groups, in a
// control group of its own. At the end of ctx it ends the program and all that
// are in its process group.
func Exec(ctx context.Context, groups *cgroup.Tree, argv, env []string, output io.Writer) error {
	group, _ := groups.Command() // better in the agent's group than not at all
	defer group.Close()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = env, "/"
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	group.Attach(cmd.SysProcAttr)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputGrace
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it had succeeded
	}
	return err
}
