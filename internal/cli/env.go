package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/term"

	"banger/internal/api"
	"banger/internal/cli/progress"
	"banger/internal/cli/termtext"
	"banger/internal/client"
	"banger/internal/doctor"
	"banger/internal/paths"
	"banger/internal/session"
	"banger/internal/version"
)

// daemonVariable names a bangerd to start instead of the installed one.
const daemonVariable = "BANGER_DAEMON"

// env is what commands work with; tests put their own things into it.
type env struct {
	stdin io.Reader
	// stdout and stderr escape what a terminal would obey (see termtext): what
	// guests, images and servers say is among what commands print.
	stdout, stderr *termtext.Writer
	// rawStdout and rawStderr are the same without that: for sessions, whose
	// output is theirs, and for what makes its own escape sequences.
	rawStdout, rawStderr io.Writer

	stdinTTY  bool
	stdoutTTY bool
	drawable  bool // stderr is a terminal that progress can be drawn on
	version   string
	now       func() time.Time
	signals   *signals
	// runSession runs a command or a shell in a guest.
	runSession func(context.Context, session.Options) (session.Result, error)
	// exec replaces this process by a program.
	exec   func(path string, argv, environ []string) error
	system doctor.System

	quiet    bool // no progress, and no word on what went well
	parsed   bool // the command line was understood
	opened   *client.Client
	located  bool
	location paths.Layout
}

func newEnv(stdin io.Reader, stdout, stderr io.Writer, s *signals) *env {
	return &env{
		stdin:  stdin,
		stdout: termtext.NewWriter(stdout), stderr: termtext.NewWriter(stderr),
		rawStdout: stdout, rawStderr: stderr,
		stdinTTY: isTerminal(stdin), stdoutTTY: isTerminal(stdout), drawable: isDrawable(stderr),
		version:    version.String(),
		now:        time.Now,
		signals:    s,
		runSession: session.Run,
		exec:       syscall.Exec,
		system:     doctor.Host(),
	}
}

func isTerminal(v any) bool {
	fd, ok := isFile(v)
	return ok && term.IsTerminal(fd)
}

// isDrawable is isTerminal, but not for one without a size, as some programs
// make them: nothing could be drawn there.
func isDrawable(v any) bool {
	fd, ok := isFile(v)
	if !ok || !term.IsTerminal(fd) {
		return false
	}
	width, height, err := term.GetSize(fd)
	return err == nil && width > 0 && height > 0
}

// layout returns where banger's files are.
func (e *env) layout() (paths.Layout, error) {
	if e.located {
		return e.location, nil
	}
	l, err := paths.FromEnv()
	if err != nil {
		return l, api.Errorf(api.CodeHost, "%v", err)
	}
	e.location, e.located = l, true
	return l, nil
}

// client returns the client of bangerd. Its first call may start bangerd.
func (e *env) client() (*client.Client, error) {
	if e.opened != nil {
		return e.opened, nil
	}
	layout, err := e.layout()
	if err != nil {
		return nil, err
	}
	e.opened = client.New(client.Config{
		Layout:     layout,
		Version:    e.version,
		Executable: os.Getenv(daemonVariable),
	})
	return e.opened, nil
}

func (e *env) close() {
	if e.opened != nil {
		e.opened.Close()
	}
	// What they keep, half a character, is lost with what they write to.
	_ = e.stdout.Close()
	_ = e.stderr.Close()
}

// notice tells the user something that isn't the output asked for.
func (e *env) notice(format string, args ...any) {
	fmt.Fprintln(e.stderr, indent(fmt.Sprintf(format, args...)))
}

// done tells that something that was asked for is done.
func (e *env) done(format string, args ...any) {
	if !e.quiet {
		e.notice(format, args...)
	}
}

// call makes a plain call to bangerd.
func call[Req, Reply any](ctx context.Context, e *env, route api.Route[Req, Reply], req Req, args ...string) (Reply, error) {
	c, err := e.client()
	if err != nil {
		var none Reply
		return none, err
	}
	return client.Call(ctx, c, route, req, args...)
}

// stream makes a call to bangerd and shows its progress.
func stream[Req, Reply any](ctx context.Context, e *env, route api.Stream[Req, Reply], req Req, args ...string) (Reply, error) {
	c, err := e.client()
	if err != nil {
		var none Reply
		return none, err
	}
	display := progress.New(e.rawStderr, e.drawable, e.now)
	defer display.Close()
	return client.Stream(ctx, c, route, req, e.showing(display), args...)
}

// showing is what shows progress; what is out of the ordinary is told also where
// no progress is wanted.
func (e *env) showing(display progress.Display) api.ProgressFunc {
	return func(p api.Progress) {
		if !e.quiet || p.Notice != "" {
			display.Progress(p)
		}
	}
}
