package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"banger/internal/api"
	"banger/internal/guard"
)

// timeout is far beyond what any step takes on a busy machine.
const timeout = time.Minute

// runOn runs o on s and returns what came back on the two streams.
func runOn(t *testing.T, s *server, o Options) (res Result, stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	o.Dial, o.Access = s.dial, s.access
	if o.Stdout == nil {
		o.Stdout = &out
	}
	if o.Stderr == nil {
		o.Stderr = &errs
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	res, err = Run(ctx, o)
	return res, out.String(), errs.String(), err
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		options        Options
		stdout, stderr string
		exit           int
	}{
		"streams": {
			options: Options{Command: []string{"sh", "-c", "cat; echo err >&2; exit 3"}, Stdin: strings.NewReader("input\n")},
			stdout:  "input\n", stderr: "err\n", exit: 3,
		},
		"no stdin":          {options: Options{Command: []string{"cat"}}},
		"directory":         {options: Options{Command: []string{"pwd"}, Dir: dir}, stdout: dir + "\n"},
		"environment":       {options: Options{Command: []string{"printenv", "A"}, Env: map[string]string{"A": "it's\n$x"}}, stdout: "it's\n$x\n"},
		"no such command":   {options: Options{Command: []string{"/no/such/command"}, Stderr: io.Discard}, exit: 127},
		"killed":            {options: Options{Command: []string{"sh", "-c", "kill -KILL $$"}}, exit: 137},
		"killed by SIGUSR2": {options: Options{Command: []string{"sh", "-c", "kill -USR2 $$"}}, exit: 140},
		"shell":             {options: Options{Stdin: strings.NewReader("echo hi; exit 5\n")}, stdout: "hi\n", exit: 5},
		"shell in a directory": {
			options: Options{Dir: dir, Stdin: strings.NewReader("pwd\n")}, stdout: dir + "\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			res, stdout, stderr, err := runOn(t, newServer(t), test.options)
			if err != nil {
				t.Fatal(err)
			}
			if stdout != test.stdout || stderr != test.stderr || res.ExitCode != test.exit {
				t.Errorf("got %q, %q, exit %d; want %q, %q, exit %d",
					stdout, stderr, res.ExitCode, test.stdout, test.stderr, test.exit)
			}
		})
	}
}

func TestRunPassesArgumentsExactly(t *testing.T) {
	every := make([]byte, 0, 255)
	for b := 1; b < 256; b++ {
		every = append(every, byte(b))
	}
	args := []string{"", "a b", "'", `"`, `\`, "$HOME", "`id`", "\n", "a\nb\n", "-n", "*", "~", "!x", string(every), "ä", "\xff\xfe"}
	command := append([]string{"printf", "%s\\0"}, args...)
	_, stdout, _, err := runOn(t, newServer(t), Options{Command: command})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(args, strings.Split(strings.TrimSuffix(stdout, "\x00"), "\x00")); diff != "" {
		t.Error(diff)
	}
}

func TestRunSetsRefusedEnvironment(t *testing.T) {
	s := newServer(t)
	s.refuseEnv = true
	_, stdout, _, err := runOn(t, s, Options{Command: []string{"printenv", "A"}, Env: map[string]string{"A": "it's\n$x", "B": ""}})
	if err != nil {
		t.Fatal(err)
	}
	if stdout != "it's\n$x\n" {
		t.Errorf("A = %q", stdout)
	}
	_, _, _, err = runOn(t, s, Options{Command: []string{"true"}, Env: map[string]string{"A-B": "x"}})
	if !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a name that no shell takes: %v", err)
	}
}

func TestRunDoesNotWaitForStdin(t *testing.T) {
	r, w := io.Pipe() // never ends
	defer w.Close()
	res, stdout, _, err := runOn(t, newServer(t), Options{Command: []string{"echo", "done"}, Stdin: r})
	if err != nil || stdout != "done\n" || res.ExitCode != 0 {
		t.Errorf("got %v, %q, %v", res, stdout, err)
	}
}

func TestRunCopiesMuchBothWays(t *testing.T) {
	const size = 64 << 20
	sent, got := sha256.New(), sha256.New()
	in := io.TeeReader(io.LimitReader(&pattern{}, size), sent)
	res, _, _, err := runOn(t, newServer(t), Options{Command: []string{"cat"}, Stdin: in, Stdout: got})
	if err != nil || res.ExitCode != 0 {
		t.Fatal(res, err)
	}
	if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Error("what came back differs from what was sent")
	}
}

// pattern reads as bytes that don't repeat in step with any buffer.
type pattern struct{ n uint32 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		p.n = p.n*1664525 + 1013904223
		b[i] = byte(p.n >> 24)
	}
	return len(b), nil
}

// Who sees that a command has begun can send it a signal: banger doesn't take
// that for itself.
func TestRunListensBeforeItWrites(t *testing.T) {
	wrote := make(chan struct{})
	out := writerFunc(func(p []byte) (int, error) {
		close(wrote)
		return len(p), nil
	})
	slowly := func() (<-chan os.Signal, func()) {
		select {
		case <-wrote:
			t.Error("the command's output came before signals reached it")
		case <-time.After(time.Second):
		}
		return nil, func() {}
	}
	if res, _, _, err := runOn(t, newServer(t), Options{Command: []string{"echo", "ready"}, Stdout: out, Signals: slowly}); err != nil || res.ExitCode != 0 {
		t.Errorf("got %v, %v", res, err)
	}
}

// from gives a session the signals of a channel.
func from(signals <-chan os.Signal) func() (<-chan os.Signal, func()) {
	return func() (<-chan os.Signal, func()) { return signals, func() {} }
}

func TestRunForwardsSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			signals := make(chan os.Signal, 2)
			out := writerFunc(func(p []byte) (int, error) {
				signals <- syscall.SIGWINCH // has no name in the protocol
				signals <- sig
				return len(p), nil
			})
			res, _, _, err := runOn(t, newServer(t), Options{
				// A child, because a shell may ignore SIGINT and SIGQUIT.
				Command: []string{"sh", "-c", "ulimit -c 0; echo ready; exec sleep 1000"}, Stdout: out, Signals: from(signals),
			})
			if err != nil || res.ExitCode != 128+int(sig) {
				t.Errorf("got %v, %v", res, err)
			}
		})
	}
	t.Run("trapped", func(t *testing.T) {
		signals := make(chan os.Signal, 1)
		out := writerFunc(func(p []byte) (int, error) {
			signals <- syscall.SIGTERM
			return len(p), nil
		})
		res, _, _, err := runOn(t, newServer(t), Options{
			Command: []string{"sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"}, Stdout: out, Signals: from(signals),
		})
		if err != nil || res.ExitCode != 9 {
			t.Errorf("got %v, %v", res, err)
		}
	})
}

func TestRunReportsALostConnection(t *testing.T) {
	s := newServer(t)
	out := writerFunc(func(p []byte) (int, error) {
		s.hangUp()
		return len(p), nil
	})
	_, _, _, err := runOn(t, s, Options{Command: []string{"sh", "-c", "echo ready; sleep 1000"}, Stdout: out})
	var lost *LostError
	if !errors.As(err, &lost) || !errors.Is(err, api.ErrGuest) {
		t.Fatalf("got %v", err)
	}
	if api.AsError(err).Hint == "" {
		t.Error("no hint")
	}
}

// An exit status alone doesn't mean that all output has come.
func TestRunReportsLostOutput(t *testing.T) {
	s := newServer(t)
	s.handle = func(ch ssh.Channel, _ string) {
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
		s.hangUp()
	}
	_, _, _, err := runOn(t, s, Options{Command: []string{"true"}})
	var lost *LostError
	if !errors.As(err, &lost) {
		t.Errorf("got %v", err)
	}
}

func TestRunEndsTheCommandWhenOutputFails(t *testing.T) {
	out := writerFunc(func([]byte) (int, error) { return 0, syscall.EPIPE })
	_, _, _, err := runOn(t, newServer(t), Options{Command: []string{"yes"}, Stdout: out})
	if !errors.Is(err, syscall.EPIPE) {
		t.Errorf("got %v", err)
	}
}

// deafened is a connection that nothing comes in on any more once it is deaf.
type deafened struct {
	net.Conn
	deaf, closed chan struct{}
	closing      sync.Once
}

func (d *deafened) Read(p []byte) (int, error) {
	n, err := d.Conn.Read(p)
	select {
	case <-d.deaf:
		<-d.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (d *deafened) Close() error {
	d.closing.Do(func() { close(d.closed) })
	return d.Conn.Close()
}

// A guest that is told to end a command may not care.
func TestRunEndsWithoutTheGuest(t *testing.T) {
	s := newServer(t)
	conn := &deafened{deaf: make(chan struct{}), closed: make(chan struct{})}
	dial := func(ctx context.Context) (net.Conn, error) {
		var err error
		conn.Conn, err = s.dial(ctx)
		return conn, err
	}
	var once sync.Once
	out := writerFunc(func([]byte) (int, error) {
		once.Do(func() { close(conn.deaf) })
		return 0, syscall.EPIPE
	})
	ended := make(chan error, 1)
	go func() {
		_, err := Run(t.Context(), Options{Dial: dial, Access: s.access, Command: []string{"yes"}, Stdout: out})
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, syscall.EPIPE) {
			t.Errorf("got %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("Run waits for the guest")
	}
}

func TestRunEndsWithAPanicOfItsOutput(t *testing.T) {
	out := writerFunc(func([]byte) (int, error) { panic("a bug") })
	_, _, _, err := runOn(t, newServer(t), Options{Command: []string{"yes"}, Stdout: out})
	var e *guard.PanicError
	if !errors.As(err, &e) {
		t.Errorf("got %v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	s := newServer(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("no more time")
	out := writerFunc(func(p []byte) (int, error) {
		cancel(reason)
		return len(p), nil
	})
	_, err := Run(ctx, Options{Dial: s.dial, Access: s.access, Command: []string{"sh", "-c", "echo ready; sleep 1000"}, Stdout: out})
	if !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
}

func TestRunChecksKeys(t *testing.T) {
	strange, strangePath := makeKey(t)

	s := newServer(t)
	s.access.HostKey = string(ssh.MarshalAuthorizedKey(strange.PublicKey()))
	_, _, _, err := runOn(t, s, Options{Command: []string{"true"}})
	if !errors.Is(err, api.ErrGuest) || !strings.Contains(api.AsError(err).Hint, "not the VM") {
		t.Errorf("wrong host key: %v, hint %q", err, api.AsError(err).Hint)
	}

	s = newServer(t)
	s.access.KeyPath = strangePath
	_, _, _, err = runOn(t, s, Options{Command: []string{"true"}})
	if !errors.Is(err, api.ErrGuest) || !strings.Contains(api.AsError(err).Hint, "doesn't know the key") {
		t.Errorf("wrong key: %v, hint %q", err, api.AsError(err).Hint)
	}

	s.access.KeyPath = "/no/such/key"
	_, _, _, err = runOn(t, s, Options{Command: []string{"true"}})
	if !errors.Is(err, api.ErrHost) {
		t.Errorf("no key: %v", err)
	}
}

// Users of images are written in several ways; what the server gets is what
// the image says.
func TestRunLogsInAs(t *testing.T) {
	s := newServer(t)
	users := []string{"app", "1000", "1000:1000", "app:staff", "1000:staff", "ünïcode:0"}
	s.users = users
	for _, user := range users {
		if _, _, _, err := runOn(t, s, Options{User: user, Command: []string{"true"}}); err != nil {
			t.Errorf("as %s: %v", user, err)
		}
	}
	_, _, _, err := runOn(t, s, Options{User: "nobody:else", Command: []string{"true"}})
	if e := api.AsError(err); !errors.Is(err, api.ErrGuest) || !strings.Contains(e.Hint, "no user nobody:else") {
		t.Errorf("an unknown user: %v, hint %q", err, e.Hint)
	}
}

func TestRunRefusesWhatNoCommandLineHolds(t *testing.T) {
	for _, command := range [][]string{{"echo", "a\x00b"}, {"echo", strings.Repeat("x", maxCommandLine)}} {
		_, _, _, err := runOn(t, newServer(t), Options{Command: command})
		if !errors.Is(err, api.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	}
}

func BenchmarkOutput(b *testing.B) { benchmarkCopy(b, false) }
func BenchmarkInput(b *testing.B)  { benchmarkCopy(b, true) }

func benchmarkCopy(b *testing.B, input bool) {
	const size = 1 << 30
	s := newServer(&testing.T{})
	b.SetBytes(size)
	for b.Loop() {
		var in io.Reader
		command := []string{"head", "-c", fmt.Sprint(size), "/dev/zero"}
		var n int64
		if input {
			in = io.LimitReader(zeros{}, size)
			command = []string{"wc", "-c"}
		}
		var text bytes.Buffer
		out := writerFunc(func(p []byte) (int, error) {
			n += int64(len(p))
			if input {
				text.Write(p)
			}
			return len(p), nil
		})
		_, err := Run(b.Context(), Options{Dial: s.dial, Access: s.access, Command: command, Stdin: in, Stdout: out})
		if input {
			_, _ = fmt.Sscan(text.String(), &n)
		}
		if err != nil || n != size {
			b.Fatal(n, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
