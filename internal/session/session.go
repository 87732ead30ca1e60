// Package session runs commands and shells in a guest over SSH and joins them
// to the streams, the signals and the terminal of a local program.
//
// It knows nothing of how a guest is reached: the caller hands in a dialled
// connection to the guest's SSH server.
package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"banger/internal/api"
	"banger/internal/guard"
	"banger/internal/guest"
)

// Options says what to run and what to join it to.
type Options struct {
	// Dial opens a connection to the guest's SSH server.
	Dial func(ctx context.Context) (net.Conn, error)
	// Access has the key to log in with and the guest's only host key.
	Access api.Access
	// User to log in as; "" means Access.User.
	User string
	// Command is an argument vector, passed exactly as it is: no shell splits
	// or expands it. Empty means the user's login shell.
	Command []string
	// Dir is the working directory in the guest; "" means the user's home.
	Dir string
	// Env is added to the guest's own environment.
	Env map[string]string
	// TTY gives the command a terminal. Where Stdin is a terminal too, it is
	// in raw mode while the command runs, so that Ctrl-C and job control reach
	// the guest as bytes.
	TTY bool
	// Stdin is passed on until it ends; nil is an empty one. Run returns when
	// the command ends, even while a Read of Stdin is blocked: that Read goes
	// on, and what it returns is lost.
	Stdin io.Reader
	// Stdout and Stderr get all that the command writes; nil drops it. With
	// TTY everything comes on Stdout.
	Stdout, Stderr io.Writer
	// Signals is called when the command runs. It returns the signals that are
	// passed on from then on, as far as SSH has a name for them, and what ends
	// that. nil passes none on.
	Signals func() (signals <-chan os.Signal, stop func())
	// ForwardAgent lets the command use the SSH agent of SSH_AUTH_SOCK, if
	// there is one.
	ForwardAgent bool
	// Booting tells that the guest may still be starting: it is waited for as
	// long as ctx allows, where another one has two minutes.
	Booting bool
}

// Result tells how a command ended.
type Result struct {
	// ExitCode is the command's exit status, or 128+N after signal N, as a
	// shell has it.
	ExitCode int
}

// Run logs in, runs the command, and returns once it has ended and all its
// output is written. An exit status of any value is a Result, not an error.
//
// Errors: a *LostError if the connection ended before the command did, or the
// guest was silent for two minutes; an api.ErrCancelled if a signal was passed on
// and the guest didn't show that it is there within seconds; one
// that wraps the write error if Stdout or Stderr failed (the command then gets
// SIGPIPE and its channel is closed); the cause of ctx's end, in which case
// the connection is closed and the guest hangs up the command; or an
// *api.Error for a login that the guest refuses.
func Run(ctx context.Context, o Options) (Result, error) {
	// The guest gives the command line to a shell as a single argument.
	if _, err := commandLine(o.Command, o.Dir, nil); err != nil {
		return Result{}, err
	}
	return runWith(ctx, o, defaultTiming)
}

// runWith is Run with another timing.
func runWith(ctx context.Context, o Options, limit timing) (Result, error) {
	client, link, err := connect(ctx, o, limit.connect)
	if err != nil {
		return Result{}, err
	}
	defer client.Close()
	stop := context.AfterFunc(ctx, guard.Func("end a session", func() { _ = client.Close() }))
	defer stop()

	r := &run{options: o, client: client, link: link, timing: limit}
	r.watcher = r.watch()
	defer r.watcher.stop()
	res, err := r.run()
	if verdict := r.watcher.given(); err != nil && verdict != nil {
		return Result{}, verdict
	}
	if err != nil && ctx.Err() != nil {
		return Result{}, fmt.Errorf("run a command in the guest: %w", context.Cause(ctx))
	}
	return res, err
}

// closeTimeout is how long a guest may take to end a command whose output
// isn't wanted any more.
const closeTimeout = 5 * time.Second

// run is one command on one connection.
type run struct {
	options Options
	client  *ssh.Client
	link    *link
	timing  timing
	watcher *watcher
	session *ssh.Session

	// listening is closed once signals reach the command: who sees its first
	// output may send one.
	listening chan struct{}

	sinkOnce sync.Once
	sinkErr  error // why Stdout or Stderr can't be written any more
}

func (r *run) run() (Result, error) {
	sess, err := r.client.NewSession()
	if err != nil {
		return Result{}, r.fault("open a session", err)
	}
	defer sess.Close()
	r.session = sess

	restore, err := r.prepare()
	if err != nil {
		return Result{}, err
	}
	defer restore()

	r.listening = make(chan struct{})
	listen := sync.OnceFunc(func() { close(r.listening) })
	defer listen()
	sess.Stdout = r.sink("standard output", r.options.Stdout)
	sess.Stderr = r.sink("standard error", r.options.Stderr)
	stdin, err := sess.StdinPipe()
	if err != nil {
		return Result{}, fmt.Errorf("open the command's standard input: %w", err)
	}
	if err := r.start(); err != nil {
		return Result{}, err
	}
	guard.Go("feed a command in a guest", func() { r.feed(stdin) })
	if r.options.Signals != nil {
		signals, stop := r.options.Signals()
		defer stop()
		done := make(chan struct{})
		defer close(done)
		guard.Go("forward signals to a guest", func() { r.forwardSignals(signals, done) })
	}
	listen()
	if r.options.TTY {
		defer r.followSize()()
	}
	return r.result(sess.Wait())
}

// prepare asks for everything that must be there before the command starts.
// The returned function puts the local terminal back.
func (r *run) prepare() (restore func(), err error) {
	nothing := func() {}
	if r.options.ForwardAgent {
		if err := r.forwardAgent(); err != nil {
			return nothing, err
		}
	}
	if !r.options.TTY {
		return nothing, nil
	}
	return r.openTerminal()
}

// start sets the environment and starts the command or the login shell.
func (r *run) start() error {
	refused, err := r.setEnv()
	if err != nil {
		return err
	}
	line, err := commandLine(r.options.Command, r.options.Dir, refused)
	if err != nil {
		return err
	}
	if line == "" {
		err = r.session.Shell()
	} else {
		err = r.session.Start(line)
	}
	if err != nil {
		return r.fault("start the command", err)
	}
	return nil
}

// setEnv sends Env by requests of the protocol and returns what the server
// does not accept that way (OpenSSH's default is to accept next to nothing).
func (r *run) setEnv() (refused map[string]string, err error) {
	for name, value := range r.options.Env {
		payload := ssh.Marshal(struct{ Name, Value string }{name, value})
		ok, err := r.session.SendRequest("env", true, payload)
		if err != nil {
			return nil, r.fault("set "+name, err)
		}
		if !ok {
			if refused == nil {
				refused = make(map[string]string)
			}
			refused[name] = value
		}
	}
	return refused, nil
}

// feed passes standard input on and then tells the command that it ended.
func (r *run) feed(stdin io.WriteCloser) {
	if r.options.Stdin != nil {
		// Neither end's failure is ours to report: the command sees an end
		// of input, or is gone.
		_, _ = io.Copy(stdin, r.options.Stdin)
	}
	_ = stdin.Close()
}

// sink writes to w. When that fails it ends the command: were the channel left
// open but not read on, the command would wait for its reader for ever.
func (r *run) sink(name string, w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	w = guard.Writer("take the output of a command in a guest", w) // on a goroutine of the library
	return writerFunc(func(p []byte) (int, error) {
		<-r.listening
		if n, err := w.Write(p); err != nil {
			r.sinkOnce.Do(func() {
				r.sinkErr = fmt.Errorf("write %s: %w", name, err)
				_ = r.session.Signal(ssh.SIGPIPE)
				_ = r.session.Close()
				// A guest that doesn't close its side would keep Run waiting.
				time.AfterFunc(closeTimeout, guard.Func("end a session", func() { _ = r.client.Close() }))
			})
			return n, r.sinkErr
		}
		return len(p), nil
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// result makes sense of what Wait returned.
func (r *run) result(err error) (Result, error) {
	if r.sinkErr != nil {
		return Result{}, r.sinkErr
	}
	var exit *ssh.ExitError
	ended := err == nil || errors.As(err, &exit)
	// Even with an exit status, output may be missing if the connection broke
	// before the channel was closed.
	if cause := r.link.failure(); cause != nil {
		return Result{}, &LostError{Cause: cause}
	}
	switch {
	case !ended:
		return Result{}, &LostError{Cause: err}
	case exit == nil:
		return Result{}, nil
	case exit.Signal() != "":
		return Result{ExitCode: 128 + signalNumber(exit.Signal())}, nil
	default:
		return Result{ExitCode: exit.ExitStatus()}, nil
	}
}

// fault says why a step before the command's start failed.
func (r *run) fault(step string, err error) error {
	if cause := r.link.failure(); cause != nil {
		return &LostError{Cause: cause}
	}
	return api.Errorf(api.CodeGuest, "%s: the guest refused: %s", step, guest.Excerpt(err.Error()))
}

// signalNumber is the inverse of signalName for whatever the server reports.
// It returns 0 for names that Linux doesn't have.
func signalNumber(name string) int {
	for n := syscall.Signal(1); n < 32; n++ {
		if signalName(n) == name {
			return int(n)
		}
	}
	return 0
}
