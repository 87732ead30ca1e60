package sshd

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

func TestCommand(t *testing.T) {
	f := serve(t, nil)
	for name, test := range map[string]struct {
		command, stdin, stdout, stderr string
		status                         int
		signal                         string
	}{
		"streams":     {command: "cat; echo err >&2", stdin: "in", stdout: "in", stderr: "err\n"},
		"status":      {command: "exit 77", status: 77},
		"SIGTERM":     {command: "kill -TERM $$", signal: "TERM", status: 143},
		"SIGKILL":     {command: "kill -KILL $$", signal: "KILL", status: 137},
		"no command":  {command: "/no/such/file 2>/dev/null", status: 127},
		"quotes":      {command: `printf %s "a  b"`, stdout: "a  b"},
		"empty input": {command: "cat"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			s := f.session()
			s.Stdin, s.Stdout, s.Stderr = strings.NewReader(test.stdin), &stdout, &stderr
			err := s.Run(test.command)
			var exit *ssh.ExitError
			var status int
			var signal string
			if errors.As(err, &exit) {
				status, signal = exit.ExitStatus(), exit.Signal()
			} else if err != nil {
				t.Fatal(err)
			}
			got := []any{stdout.String(), stderr.String(), status, signal}
			want := []any{test.stdout, test.stderr, test.status, test.signal}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCommandRunsInHome(t *testing.T) {
	f := serve(t, nil)
	account, err := lookupUser(etcDir, f.user)
	if err != nil {
		t.Fatal(err)
	}
	want := account.home
	if info, err := os.Stat(want); err != nil || !info.IsDir() {
		want = "/"
	}
	if got := f.output("pwd -P"); strings.TrimSpace(got) != want {
		t.Errorf("runs in %q, want %q", got, want)
	}
}

func TestLoginShell(t *testing.T) {
	s := serve(t, nil).session()
	s.Stdin = strings.NewReader("echo $0; exit 9\n")
	var out bytes.Buffer
	s.Stdout = &out
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 9 {
		t.Errorf("shell: %v", err)
	}
	if got := strings.TrimSpace(out.String()); !strings.HasPrefix(got, "-") {
		t.Errorf("argv[0] is %q, not that of a login shell", got)
	}
}

func TestEnvironment(t *testing.T) {
	f := serve(t, func(c *Config) {
		c.Env = map[string]string{"FROM_CONFIG": "c", "BOTH": "config"}
	})
	s := f.session()
	for name, value := range map[string]string{"BOTH": "it's\nclient", "odd-name.1": "x"} {
		if err := s.Setenv(name, value); err != nil {
			t.Errorf("set %s: %v", name, err)
		}
	}
	if err := s.Setenv("A=B", "x"); err == nil {
		t.Error("a name with = in it is accepted")
	}
	out, err := s.Output("cat /proc/$$/environ") // a shell drops odd names
	if err != nil {
		t.Fatal(err)
	}
	env := make(map[string]string)
	for entry := range strings.SplitSeq(string(out), "\x00") {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	for name, want := range map[string]string{
		"USER": f.user, "LOGNAME": f.user, "FROM_CONFIG": "c", "BOTH": "it's\nclient", "odd-name.1": "x",
	} {
		if env[name] != want {
			t.Errorf("%s = %q, want %q", name, env[name], want)
		}
	}
	if !strings.Contains(env["PATH"], "/usr/bin") || env["HOME"] == "" || env["SHELL"] == "" {
		t.Errorf("PATH, HOME or SHELL is missing in %q", out)
	}
}

func TestClientSignal(t *testing.T) {
	s := serve(t, nil).session()
	stdout, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// The signal is for the whole process group, not only for the shell.
	if err := s.Start("echo ready; sleep 1000; exit 1"); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal(ssh.SIGTERM); err != nil {
		t.Fatal(err)
	}
	within(t, patience, "a signal's effect", func() { err = s.Wait() })
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Errorf("got %v", err)
	}
}

func TestBigStream(t *testing.T) {
	const size = 64 << 20
	s := serve(t, nil).session()
	sent, got := sha256.New(), sha256.New()
	s.Stdin = io.TeeReader(io.LimitReader(&noise{}, size), sent)
	s.Stdout = got
	if err := s.Run("cat"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Error("what came back differs from what was sent")
	}
}

// BenchmarkCat measures a GiB on its way through a command and back.
func BenchmarkCat(b *testing.B) {
	const size = 1 << 30
	f := serve(b, nil)
	b.SetBytes(size)
	for b.Loop() {
		s := f.session()
		s.Stdin = io.LimitReader(zeros{}, size)
		var n counter
		s.Stdout = &n
		if err := s.Run("cat"); err != nil || n != size {
			b.Fatalf("%d bytes came back, %v", n, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// noise reads as bytes that don't repeat in step with any buffer.
type noise struct{ state uint64 }

func (n *noise) Read(p []byte) (int, error) {
	for i := range p {
		n.state = n.state*6364136223846793005 + 1442695040888963407
		p[i] = byte(n.state >> 56)
	}
	return len(p), nil
}

func TestOutputForSlowReaderIsComplete(t *testing.T) {
	const grace = 50 * time.Millisecond
	s := serve(t, func(c *Config) { c.drainGrace = grace }).session()
	stdout, _ := pipesOf(t, s)
	// Less than what the channel's window and the pipe take together, so that
	// the shell ends before anything is read. The pipe stays open. Standard
	// error shares the window, and so can't tell the numbers.
	const size = 2600000
	pids := filepath.Join(t.TempDir(), "pids")
	if err := s.Start("sleep 1000 & head -c 2600000 /dev/zero; echo $$ $! >" + pids); err != nil {
		t.Fatal(err)
	}
	var text []byte
	eventually(t, "the end of the output", func() bool {
		text, _ = os.ReadFile(pids)
		return bytes.HasSuffix(text, []byte("\n"))
	})
	shell, sleep, _ := strings.Cut(string(text), " ")
	defer kill(t, number(t, sleep))
	eventually(t, "the end of the shell", func() bool { return !processExists(number(t, shell)) })
	time.Sleep(4 * grace) // the reader is late on purpose
	var n int64
	var err error
	within(t, patience, "the output", func() { n, err = io.Copy(io.Discard, stdout) })
	if err != nil || n != size {
		t.Errorf("read %d bytes of %d, %v", n, size, err)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
}

func TestProcessLeftBehind(t *testing.T) {
	f := serve(t, func(c *Config) { c.drainGrace = 50 * time.Millisecond })
	s := f.session()
	var stdout bytes.Buffer
	s.Stdout = &stdout
	ready := filepath.Join(t.TempDir(), "ready")
	var err error
	within(t, patience, "a command that leaves a process behind", func() {
		err = s.Run("(while [ ! -e " + ready + " ]; do sleep 0.01; done; echo late; echo late; : >" + ready + ".done; exec sleep 1000) & echo $!")
	})
	if err != nil {
		t.Fatal(err)
	}
	left := number(t, stdout.String())
	defer kill(t, left)
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Its output has no reader any more, and does not kill it.
	eventually(t, "two lines into nowhere", func() bool {
		_, err := os.Stat(ready + ".done")
		return err == nil
	})
	if !processExists(left) {
		t.Error("the process was killed by its output")
	}
}

func TestLateOutputOfProcessLeftBehind(t *testing.T) {
	out := serve(t, nil).output("(sleep 0.2; echo late) & echo early")
	if out != "early\nlate\n" {
		t.Errorf("got %q", out)
	}
}

func pipesOf(t *testing.T, s *ssh.Session) (stdout, stderr io.Reader) {
	t.Helper()
	stdout, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err = s.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	return stdout, stderr
}

// line reads up to a newline and no further.
func line(t *testing.T, r io.Reader) string {
	t.Helper()
	var text []byte
	within(t, patience, "a line of output", func() {
		for b := make([]byte, 1); ; text = append(text, b[0]) {
			if _, err := io.ReadFull(r, b); err != nil || b[0] == '\n' {
				return
			}
		}
	})
	return string(text)
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("kill %d: %v", pid, err)
	}
}
