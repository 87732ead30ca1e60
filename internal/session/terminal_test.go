package session

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"banger/internal/lockedbuffer"
)

// screen collects what a command writes.
type screen struct{ lockedbuffer.Buffer }

func (s *screen) waitFor(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(timeout); ; time.Sleep(5 * time.Millisecond) {
		text := s.String()
		if strings.Contains(text, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q didn't appear in %q", want, text)
		}
	}
}

func termios(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *state
}

// terminalRun runs a command with a local terminal of 100 by 30.
type terminalRun struct {
	keyboard, tty *os.File
	before        unix.Termios
	screen        *screen
	done          chan struct{}
	result        Result
	err           error
}

func startWithTerminal(t *testing.T, s *server, command ...string) *terminalRun {
	t.Helper()
	keyboard, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close(); tty.Close() })
	if err := pty.Setsize(keyboard, &pty.Winsize{Cols: 100, Rows: 30}); err != nil {
		t.Fatal(err)
	}
	r := &terminalRun{keyboard: keyboard, tty: tty, before: termios(t, tty), screen: &screen{}, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.result, r.err = Run(t.Context(), Options{
			Dial: s.dial, Access: s.access, Command: command, TTY: true,
			Env: map[string]string{"TERM": "vt100"}, Stdin: tty, Stdout: r.screen,
		})
	}()
	return r
}

func (r *terminalRun) wait(t *testing.T) {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(timeout):
		t.Fatal("the command doesn't end")
	}
}

func (r *terminalRun) typeKeys(t *testing.T, keys string) {
	t.Helper()
	if _, err := r.keyboard.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

func TestTerminal(t *testing.T) {
	s := newServer(t)
	r := startWithTerminal(t, s, "sh", "-c", `tty -s && echo "term $TERM size $(stty size)"; read line; echo "got $line"; exit 4`)
	r.screen.waitFor(t, "term vt100 size 30 100")
	if raw := termios(t, r.tty); raw.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Error("the local terminal isn't raw")
	}
	if err := pty.Setsize(r.keyboard, &pty.Winsize{Cols: 90, Rows: 20}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	select {
	case size := <-s.sizes:
		if size != [2]uint32{90, 20} {
			t.Errorf("new size %v", size)
		}
	case <-time.After(timeout):
		t.Error("the new size isn't passed on")
	}
	r.typeKeys(t, "hello\r")
	r.screen.waitFor(t, "got hello")
	r.wait(t)
	if r.err != nil || r.result.ExitCode != 4 {
		t.Errorf("got %v, %v", r.result, r.err)
	}
	if after := termios(t, r.tty); after != r.before {
		t.Errorf("the terminal isn't as it was: %+v, was %+v", after, r.before)
	}
}

func TestTerminalPassesControlKeys(t *testing.T) {
	r := startWithTerminal(t, newServer(t), "sh", "-c", "trap 'echo interrupted; exit 6' INT; echo ready; while :; do sleep 0.05; done")
	r.screen.waitFor(t, "ready")
	r.typeKeys(t, "\x03")
	r.wait(t)
	if r.err != nil || r.result.ExitCode != 6 {
		t.Errorf("got %v, %v", r.result, r.err)
	}
}

func TestTerminalIsRestoredWhenTheConnectionBreaks(t *testing.T) {
	s := newServer(t)
	r := startWithTerminal(t, s, "sh", "-c", "echo ready; sleep 1000")
	r.screen.waitFor(t, "ready")
	s.hangUp()
	r.wait(t)
	var lost *LostError
	if !errors.As(r.err, &lost) {
		t.Errorf("got %v", r.err)
	}
	if after := termios(t, r.tty); after != r.before {
		t.Error("the terminal isn't as it was")
	}
}

func TestTerminalWithoutALocalOne(t *testing.T) {
	var out screen
	s := newServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	res, err := Run(ctx, Options{
		Dial: s.dial, Access: s.access, TTY: true, Stdout: &out,
		Command: []string{"sh", "-c", "tty -s && stty size"},
	})
	if err != nil || res.ExitCode != 0 {
		t.Fatal(res, err)
	}
	out.waitFor(t, "24 80")
}
