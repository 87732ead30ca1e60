//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// terminal is a banger command on a pseudo-terminal and what it has shown.
type terminal struct {
	tty *os.File
	mu  sync.Mutex
	out bytes.Buffer
}

func (h *host) openTerminal(t *testing.T, args ...string) (*terminal, func() int) {
	t.Helper()
	return h.openTerminalWith(t, nil, args...)
}

// openTerminalWith is openTerminal with more variables.
func (h *host) openTerminalWith(t *testing.T, env []string, args ...string) (*terminal, func() int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	t.Cleanup(cancel)
	cmd := h.command(ctx, args...)
	cmd.Env = append(cmd.Env, env...)
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 100})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	term := &terminal{tty: tty}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		buf := make([]byte, 4096)
		for {
			n, err := tty.Read(buf)
			term.mu.Lock()
			term.out.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return // EIO: the other side was closed
			}
		}
	}()
	return term, func() int {
		_ = cmd.Wait() // the exit status is what counts
		<-drained
		return cmd.ProcessState.ExitCode()
	}
}

func (term *terminal) screen() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.out.String()
}

func (term *terminal) send(t *testing.T, keys string) {
	t.Helper()
	if _, err := term.tty.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// patience is how long a terminal may take to show something.
const patience = 3 * time.Minute

// expect waits until want has been shown since the last expect.
func (term *terminal) expect(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !term.shown(want); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q was not shown, but:\n%s", want, term.screen())
		}
	}
}

// press sends a key until want is shown: a control key that comes before the
// program that it is meant for has the terminal does nothing.
func (term *terminal) press(t *testing.T, key, want string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		term.send(t, key)
		for again := time.Now().Add(2 * time.Second); time.Now().Before(again); time.Sleep(50 * time.Millisecond) {
			if term.shown(want) {
				return
			}
		}
	}
	t.Fatalf("%q was not shown, but:\n%s", want, term.screen())
}

// shown tells whether want is on the screen, and forgets all up to it.
func (term *terminal) shown(want string) bool {
	term.mu.Lock()
	defer term.mu.Unlock()
	_, after, found := strings.Cut(term.out.String(), want)
	if found {
		term.out.Reset()
		term.out.WriteString(after)
	}
	return found
}

// TestInteractive uses banger vm run as a person does.
func TestInteractive(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		t.Cleanup(func() { h.run(t, "vm", "delete", "--force", "tty") })
		term, wait := h.openTerminal(t, "vm", "run", "--name", "tty")
		term.expect(t, "@tty")

		// What is sent is echoed, so each mark is put together by the shell.
		term.send(t, "stty size; echo mark-$((1+1))\n")
		term.expect(t, "30 100")
		term.expect(t, "mark-2")
		if err := pty.Setsize(term.tty, &pty.Winsize{Rows: 40, Cols: 120}); err != nil {
			t.Fatal(err)
		}
		term.send(t, "until [ \"$(stty size)\" = '40 120' ]; do sleep 1; done; echo resized-$((1+1))\n")
		term.expect(t, "resized-2")

		term.send(t, "sleep 1000\n")
		term.expect(t, "sleep 1000")
		term.press(t, "\x1a", "Stopped") // Ctrl-Z
		term.expect(t, "sleep 1000\r\n") // the same line
		term.send(t, "fg\n")
		term.expect(t, "sleep 1000\r\n")
		term.press(t, "\x03echo status-$?\n", "status-130") // Ctrl-C

		term.send(t, "top\n")
		term.expect(t, "load average")
		term.send(t, "q")
		term.expect(t, "@tty") // top drops what is typed before it has ended
		term.send(t, "vi /root/written\n")
		term.expect(t, "/root/written")
		term.send(t, "ihello\x1b:wq\n")
		term.expect(t, "@tty")
		term.send(t, "cat /root/written; echo done-$((1+1))\n")
		term.expect(t, "hello\r\n")
		term.expect(t, "done-2")

		term.send(t, "exit 3\n")
		if exit := wait(); exit != 3 {
			t.Errorf("exit %d, want that of the shell, 3", exit)
		}
		for _, hint := range []string{"banger vm ssh tty", "banger vm stop tty", "banger vm delete"} {
			if !strings.Contains(term.screen(), hint) {
				t.Errorf("the parting words don't mention %q:\n%s", hint, term.screen())
			}
		}
		h.must(t, "vm", "exec", "tty", "--", "true")
	})
}
