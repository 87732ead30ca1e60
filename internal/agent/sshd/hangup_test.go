package sshd

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestHangUp(t *testing.T) {
	for how, hangUp := range map[string]func(*fixture, *ssh.Client, *ssh.Session) error{
		"channel":    func(_ *fixture, _ *ssh.Client, s *ssh.Session) error { return s.Close() },
		"connection": func(_ *fixture, c *ssh.Client, _ *ssh.Session) error { return c.Close() },
		"server":     func(f *fixture, _ *ssh.Client, _ *ssh.Session) error { f.stop(); return nil },
	} {
		for name, terminal := range map[string]bool{"": false, " of a terminal": true} {
			t.Run(how+name, func(t *testing.T) {
				f := serve(t, nil)
				c := f.client()
				s := newSession(t, c)
				stdout, _ := pipesOf(t, s)
				if terminal {
					if err := s.RequestPty("vt100", 24, 80, nil); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Start("sleep 1000 & echo $$ $!; wait"); err != nil {
					t.Fatal(err)
				}
				shell, sleep, _ := strings.Cut(line(t, stdout), " ")
				if err := hangUp(f, c, s); err != nil {
					t.Fatal(err)
				}
				for _, pid := range []int{number(t, shell), number(t, sleep)} {
					eventually(t, "the end of the process", func() bool { return !isRunning(pid) })
				}
			})
		}
	}
}

// A command that was hung up may clean up, and what it writes meanwhile, more
// than a pipe holds, doesn't kill it.
func TestHungUpCommandMayWrite(t *testing.T) {
	for how, hangUp := range map[string]func(*ssh.Client, *ssh.Session) error{
		"channel":    func(_ *ssh.Client, s *ssh.Session) error { return s.Close() },
		"connection": func(c *ssh.Client, _ *ssh.Session) error { return c.Close() },
	} {
		t.Run(how, func(t *testing.T) {
			f := serve(t, nil)
			c := f.client()
			s := newSession(t, c)
			stdout, _ := pipesOf(t, s)
			clean := filepath.Join(t.TempDir(), "clean")
			write := "head -c 3000000 /dev/zero"
			err := s.Start("trap '" + write + " && " + write + " >&2 && : >" + clean + "; exit' HUP; echo $$; while :; do sleep 1; done")
			if err != nil {
				t.Fatal(err)
			}
			pid := number(t, line(t, stdout))
			if err := hangUp(c, s); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the end of the command", func() bool { return !isRunning(pid) })
			if _, err := os.Stat(clean); err != nil {
				t.Error(err)
			}
		})
	}
}

// endedInput is a channel whose client sends nothing more.
type endedInput struct {
	ssh.Channel
	gone bool
}

func (endedInput) Read([]byte) (int, error) { return 0, io.EOF }

func (c endedInput) SendRequest(string, bool, []byte) (bool, error) {
	if c.gone {
		return false, io.EOF
	}
	return false, nil
}

// A client that is gone has not ended its input: the command is hung up before it
// can take half of that for all.
func TestInputThatIsCutHasNoEnd(t *testing.T) {
	for name, gone := range map[string]bool{"ended": false, "cut": true} {
		t.Run(name, func(t *testing.T) {
			ended := false
			s := &streams{channel: endedInput{gone: gone}, endInput: func() error { ended = true; return nil }}
			s.feed()
			if ended == gone {
				t.Errorf("the command is told of an end: %v", ended)
			}
		})
	}
}

func TestHangUpSparesWhoIgnoresIt(t *testing.T) {
	for name, terminal := range map[string]bool{"no terminal": false, "terminal": true} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, nil) // whose end has to come all the same
			c := f.client()
			s := newSession(t, c)
			stdout, _ := pipesOf(t, s)
			if terminal {
				if err := s.RequestPty("vt100", 24, 80, nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Start("trap '' HUP; echo $$; exec sleep 1000"); err != nil {
				t.Fatal(err)
			}
			pid := number(t, line(t, stdout))
			// Killed only after the server has returned.
			t.Cleanup(func() {
				f.end()
				if !isRunning(pid) {
					t.Error("the process is gone")
				}
				kill(t, pid)
				eventually(t, "its reaping", func() bool { return !processExists(pid) })
			})
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			f.output("true") // the server lives on
		})
	}
}
