package sshd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// terminalSession has a terminal of 24 rows and 80 columns.
func (f *fixture) terminalSession(modes ssh.TerminalModes) *ssh.Session {
	f.t.Helper()
	s := f.session()
	if err := s.RequestPty("xterm", 24, 80, modes); err != nil {
		f.t.Fatal(err)
	}
	return s
}

func TestTerminal(t *testing.T) {
	s := serve(t, nil).terminalSession(nil)
	out, err := s.Output(`tty; echo "$SSH_TTY"; echo $TERM; stty size; echo err >&2; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && : >/dev/tty; echo $?`)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\r\n")
	want := []string{lines[0], lines[0], "xterm", "24 80", "err", "0", ""}
	if got := fmt.Sprintf("%q", lines); got != fmt.Sprintf("%q", want) || !strings.HasPrefix(lines[0], "/dev/pts/") {
		t.Errorf("got %q, want %q", lines, want)
	}
}

func TestTerminalModes(t *testing.T) {
	s := serve(t, nil).terminalSession(ssh.TerminalModes{ssh.ECHO: 0, ssh.ONLCR: 0, ssh.VINTR: 24, ssh.VSUSP: 255, 42: 1})
	out, err := s.Output("stty -a")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{" -echo ", " -onlcr", "intr = ^X;", "susp = <undef>;", " iutf8", " icanon", "cs8"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
}

func TestMalformedTerminalModes(t *testing.T) {
	var modes unix.Termios
	for _, encoded := range []string{"", "\x00", "\x35", "\x35\x00\x00\x00", "\xa0\x00\x00\x00\x01", "\x0b\x00\x00\x00\x01"} {
		setModes(&modes, []byte(encoded))
	}
	if modes != (unix.Termios{}) {
		t.Errorf("got %+v", modes)
	}
}

func TestTerminalResize(t *testing.T) {
	s := serve(t, nil).terminalSession(nil)
	stdout, _ := pipesOf(t, s)
	if err := s.Start(`trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done`); err != nil {
		t.Fatal(err)
	}
	line(t, stdout)
	if err := s.WindowChange(50, 132); err != nil {
		t.Fatal(err)
	}
	if got := line(t, stdout); got != "50 132\r" {
		t.Errorf("got %q", got)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
}

// TestJobControl stops a job of an interactive shell by Ctrl-Z, continues it,
// and ends it by Ctrl-C.
func TestJobControl(t *testing.T) {
	s := serve(t, nil).terminalSession(ssh.TerminalModes{ssh.ECHO: 0})
	stdin, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, _ := pipesOf(t, s)
	if err := s.Start("exec sh -i"); err != nil {
		t.Fatal(err)
	}
	transcript := newTranscript(stdout)
	for _, step := range []struct{ send, expect string }{
		{"PS1=; echo read''y\n", "ready"},
		{`sh -c 'trap "echo resu""med" CONT; echo start""ed; while :; do sleep 0.01; done'` + "\n", "started"},
		{"\x1a", "Stopped"},
		// The job is continued when it has the terminal.
		{"echo back''ground; fg\n", "resumed"},
		{"\x03", ""},
		{"echo status=$?\n", "status=130"},
	} {
		if _, err := io.WriteString(stdin, step.send); err != nil {
			t.Fatal(err)
		}
		eventually(t, step.expect, func() bool { return strings.Contains(transcript.text(), step.expect) })
	}
	if _, err := io.WriteString(stdin, "exit 7\n"); err != nil {
		t.Fatal(err)
	}
	within(t, patience, "the end of the shell", func() { err = s.Wait() })
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		t.Errorf("got %v after %q", err, transcript.text())
	}
}

func TestTerminalEndOfInput(t *testing.T) {
	s := serve(t, nil).terminalSession(ssh.TerminalModes{ssh.ECHO: 0})
	s.Stdin = strings.NewReader("one\ntwo\n")
	var out []byte
	var err error
	within(t, patience, "a command at the end of its input", func() { out, err = s.Output("cat") })
	if err != nil || string(out) != "one\r\ntwo\r\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

// TestTerminalOutputIsComplete has the session's leader end with much of its
// output still unread.
func TestTerminalOutputIsComplete(t *testing.T) {
	f := serve(t, nil)
	var want bytes.Buffer
	for i := range 20000 {
		fmt.Fprintf(&want, "%d\r\n", i+1)
	}
	for _, command := range []string{"seq 20000", "exec seq 20000"} {
		for range 5 {
			out, err := f.terminalSession(nil).Output(command)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out, want.Bytes()) {
				t.Errorf("%s: got %d bytes of %d", command, len(out), want.Len())
			}
		}
	}
}
