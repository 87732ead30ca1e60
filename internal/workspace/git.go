package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"banger/internal/api"
)

// safeOptions keep git from running what the user's configuration names, but
// for filters (a monitor, hooks, signature checks), from using the network for
// objects that a partial clone lacks, from writing an index in a form that
// means something on this machine only, and from taking pains over small packs.
// What a repository's configuration names is never known to git: see view.
var safeOptions = []string{
	"-c", "core.fsmonitor=false",
	"-c", "core.hooksPath=/dev/null",
	"-c", "core.untrackedCache=false",
	"-c", "core.splitIndex=false",
	"-c", "index.skipHash=false",
	"-c", "log.showSignature=false",
	"-c", "protocol.allow=never",
	"-c", "submodule.recurse=false",
	"-c", "pack.compression=1",
	"-c", "gc.auto=0",
	"-c", "maintenance.auto=false",
}

// keptVariables are the GIT_ variables that say where the user's own
// configuration is. All others would bend git towards another repository or
// mix tracing into its messages.
var keptVariables = []string{
	"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM",
	"GIT_EXEC_PATH",
}

// git runs git in a directory. Nothing it runs writes to the user's
// repositories.
type git struct {
	dir string
	env []string // beyond the clean environment
}

// with returns a git that also has these variables.
func (g git) with(env ...string) git {
	return git{dir: g.dir, env: slices.Concat(g.env, env)}
}

// gitError is a run of git that went wrong.
type gitError struct {
	command string // e.g. "ls-files"
	stderr  string
	err     error
}

func (e *gitError) Error() string {
	text := strings.TrimSpace(e.stderr)
	if text == "" {
		text = e.err.Error()
	}
	return fmt.Sprintf("git %s: %s", e.command, text)
}

func (e *gitError) Unwrap() error { return e.err }

// process is a prepared run of git whose streams the caller connects.
type process struct {
	*exec.Cmd
	ctx     context.Context
	command string
	stderr  bytes.Buffer
}

func (g git) process(ctx context.Context, args ...string) *process {
	p := &process{
		Cmd:     exec.CommandContext(ctx, "git", slices.Concat([]string{"--no-pager"}, safeOptions, args)...),
		ctx:     ctx,
		command: args[0],
	}
	p.Dir = g.dir
	p.Env = append(cleanEnv(), g.env...)
	p.Stderr = &p.stderr
	p.WaitDelay = 5 * time.Second
	// A filter that git has started ends with it.
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.Cancel = func() error { return syscall.Kill(-p.Process.Pid, syscall.SIGKILL) }
	return p
}

// explain turns what Run, Start or Wait returned into an error for people.
func (p *process) explain(err error) error {
	var obstacle *api.Error // see inWorktree
	switch {
	case err == nil:
		return nil
	case errors.As(context.Cause(p.ctx), &obstacle):
		return obstacle
	case p.ctx.Err() != nil:
		return fmt.Errorf("git %s: %w", p.command, context.Cause(p.ctx))
	case errors.Is(err, exec.ErrNotFound):
		return api.Errorf(api.CodeHost, "git isn't installed").
			WithHint("install git with the host's package manager")
	}
	return &gitError{command: p.command, stderr: p.stderr.String(), err: err}
}

// output runs git and returns what it prints.
func (g git) output(ctx context.Context, args ...string) ([]byte, error) {
	return g.filter(ctx, nil, args...)
}

// filter is output with an input.
func (g git) filter(ctx context.Context, input io.Reader, args ...string) ([]byte, error) {
	p := g.process(ctx, args...)
	p.Stdin = input
	out, err := p.Output()
	return out, p.explain(err)
}

// line runs git and returns what it prints without the last newline.
func (g git) line(ctx context.Context, args ...string) (string, error) {
	out, err := g.output(ctx, args...)
	return strings.TrimSuffix(string(out), "\n"), err
}

// exitedWith reports whether git ended with the exit status code.
func exitedWith(err error, code int) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == code
}

// cleanEnv is this process's environment without what would change what git
// does, and with what keeps it quiet, English and read-only.
func cleanEnv() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return strings.HasPrefix(name, "GIT_") && !slices.Contains(keptVariables, name)
	})
	return append(env, "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0", "GIT_NO_LAZY_FETCH=1", "LC_ALL=C")
}

// fields splits the output of a git command with -z.
func fields(out []byte) []string {
	if len(out) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}
