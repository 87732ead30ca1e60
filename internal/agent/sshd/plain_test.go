package sshd

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

func TestParsePlain(t *testing.T) {
	for line, want := range map[string]plainCommand{
		"exec /app":                    {argv: []string{"/app"}},
		"/app -v --name=x":             {argv: []string{"/app", "-v", "--name=x"}},
		`exec /app 'a b' '' 'it'\''s'`: {argv: []string{"/app", "a b", "", "it's"}},
		"export A='x y' && export B=2 && cd './a b' && exec app": {
			dir: "./a b", env: environment{"A": "x y", "B": "2"}, argv: []string{"app"},
		},
		"exec /app '$HOME' '&&' '*'": {argv: []string{"/app", "$HOME", "&&", "*"}},
	} {
		if want.env == nil {
			want.env = environment{}
		}
		got, err := parsePlain(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(plainCommand{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
	for _, line := range []string{
		"", "exec", "a | b", "a; b", "a && b", "echo $HOME", "echo *", "a > b", "a &", `a "b"`, "'open", "A=1 b", "(a)", "`a`", "a\\\nb",
		`exec "${SHELL:-/bin/sh}" -l`,
	} {
		if got, err := parsePlain(line); !errors.Is(err, errNoShell) {
			t.Errorf("%q needs no shell: %+v, %v", line, got, err)
		}
	}
}

// noShellCommand asks for a command in a session whose account has a
// shell that doesn't exist.
func noShellCommand(t *testing.T, kind, line string) (processSpec, error) {
	t.Helper()
	s := &session{
		conn: &connection{user: &account{home: "/", shell: "/no/such/shell"}, server: &Server{}},
		env:  environment{"PATH": "/no/such/dir:/bin:/usr/bin"},
	}
	spec, failure, err := s.command(&ssh.Request{Type: kind, Payload: ssh.Marshal(struct{ Text string }{line})})
	if err != nil {
		t.Fatal(err)
	}
	return spec, failure
}

func TestCommandWithoutShell(t *testing.T) {
	dir := t.TempDir()
	spec, err := noShellCommand(t, "exec", "export GREETING='hello there' && cd "+dir+" && exec sh -c 'echo \"$GREETING\"; pwd'")
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	spec.user = &account{uid: uint32(os.Getuid()), gid: uint32(os.Getgid()), home: "/"}
	p, err := startProcess(spec, nil, out, out)
	if err != nil {
		t.Fatal(err)
	}
	if status := p.wait(); status != 0 {
		t.Errorf("it ends with %#x", status)
	}
	got, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"hello there\n", dir + "\n"} {
		if !bytes.Contains(got, []byte(want)) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	for line, status := range map[string]int{"exec no-such-program": 127, "a | b": 127, "cd /no/such/dir && exec env": 127, "cd /dev/null && exec env": 126} {
		if _, err := noShellCommand(t, "exec", line); err == nil || startFailure(err).ExitStatus() != status {
			t.Errorf("%s: %v", line, err)
		}
	}
	if _, err := noShellCommand(t, "shell", ""); !errors.Is(err, errNoShell) {
		t.Errorf("a shell: %v", err)
	}
}
