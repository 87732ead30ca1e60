// Package hosttool runs programs of the host that build kernels and images:
// it finds them, says which Debian package has a missing one, ends them with
// bangerd, and turns their output into short errors.
package hosttool

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"banger/internal/api"
	"banger/internal/guard"
)

// adminDirs are where Debian keeps programs for root. A plain user's PATH
// lacks them, yet such a user is root in bangerd's user namespace.
const adminDirs = "/usr/local/sbin:/usr/sbin:/sbin"

// waitDelay bounds the wait for the output of a killed program's children.
const waitDelay = 5 * time.Second

// Tool is a program and the Debian package that has it.
type Tool struct {
	Name    string
	Package string
}

// Find returns the program's absolute path. A missing one is an api.CodeHost
// error that names the package.
func (t Tool) Find() (string, error) {
	path, err := exec.LookPath(t.Name)
	if err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range filepath.SplitList(adminDirs) {
		if path, err := exec.LookPath(filepath.Join(dir, t.Name)); err == nil {
			return path, nil
		}
	}
	return "", api.Errorf(api.CodeHost, "%s is not installed on this host", t.Name).
		WithHint("install it with: sudo apt-get install %s", t.Package)
}

// Command is one run of a program.
type Command struct {
	Tool Tool
	// Path is the program inside Root, for a program that isn't the host's.
	Path string
	Args []string
	Env  []string // added to bangerd's own
	Dir  string
	// Root, if not empty, becomes the program's root directory.
	Root string
	// OnLine, if not nil, gets every line that the program writes to its
	// standard output or error.
	OnLine func(line string)
	Log    *slog.Logger
}

// Run runs c to its end. When ctx ends or this process dies, however it dies,
// the program is killed. An error holds the last words of the program; a full
// disk is an api.CodeHost error.
func Run(ctx context.Context, c Command) error {
	path := c.Path
	if c.Root == "" {
		found, err := c.Tool.Find()
		if err != nil {
			return err
		}
		path = found
	}
	out := newOutput(c.OnLine, c.Log.With("tool", c.Tool.Name))
	cmd := exec.CommandContext(ctx, path, c.Args...)
	cmd.Env = append(os.Environ(),
		// Output is read by machine, so it must not be translated.
		"LC_ALL=C", "LANGUAGE=",
		"PATH="+os.Getenv("PATH")+":"+adminDirs)
	cmd.Env = append(cmd.Env, c.Env...)
	cmd.Dir = c.Dir
	// Package exec writes on a goroutine of its own, one as both are the same.
	said := guard.Writer("read what a tool prints", out)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.WaitDelay = waitDelay
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Chroot: c.Root}

	err := runOnOneThread(cmd)
	out.flush()
	if ctx.Err() != nil {
		return fmt.Errorf("run %s: %w", c.Tool.Name, context.Cause(ctx))
	}
	if err != nil {
		return out.explain(c.Tool.Name, err)
	}
	return nil
}

// runOnOneThread runs cmd from a thread that lives as long as cmd does: the
// kernel sends Pdeathsig when the thread that started the child ends, not the
// process (prctl(2), PR_SET_PDEATHSIG), and Go ends a thread whenever a
// goroutine exits while locked to it.
func runOnOneThread(cmd *exec.Cmd) error {
	return <-guard.Start("run a tool", func() error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		return cmd.Run()
	})
}

// lastWords condenses lines of output to at most two that tell what went
// wrong: the first ones that look like errors, since what follows is mostly
// about the failure of whatever ran the failed thing; else the last ones.
func lastWords(lines []string) string {
	var telling, last []string
	for _, line := range lines {
		line = strings.TrimSpace(line)
		last = append(last, line)
		if strings.HasPrefix(line, "E: ") || strings.HasPrefix(line, "dpkg: error") ||
			strings.Contains(line, "rror: ") || strings.Contains(line, ": cannot ") || strings.Contains(line, ": Cannot ") {
			telling = append(telling, line)
		}
	}
	if len(telling) > 0 {
		return strings.Join(telling[:min(2, len(telling))], "; ")
	}
	return strings.Join(last[max(0, len(last)-2):], "; ")
}
