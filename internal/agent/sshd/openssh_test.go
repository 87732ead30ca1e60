package sshd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// proxyArgument makes the test binary the ProxyCommand of OpenSSH's client: it
// joins a Unix socket to its streams.
const proxyArgument = "proxy"

func proxy(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	go func() { _, _ = io.Copy(conn, os.Stdin) }()
	_, err = io.Copy(os.Stdout, conn)
	return err
}

// openSSH runs one of OpenSSH's programs against the server.
func (f *fixture) openSSH(stdin io.Reader, program string, args ...string) (string, error) {
	f.t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		f.t.Skip(err)
	}
	self, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	known := filepath.Join(f.t.TempDir(), "known")
	entry := "vm " + string(ssh.MarshalAuthorizedKey(f.hostKey.PublicKey()))
	if err := os.WriteFile(known, []byte(entry), 0o600); err != nil {
		f.t.Fatal(err)
	}
	options := []string{
		"-F", "none", "-i", f.keyPath, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
		"-o", "UserKnownHostsFile=" + known, "-o", fmt.Sprintf("ProxyCommand=%s %s %s", self, proxyArgument, f.socket),
		"-o", "User=" + f.user, "-o", "ServerAliveInterval=1",
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append(options, args...)...)
	cmd.Stdin = stdin
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if text := strings.TrimSpace(stderr.String()); text != "" {
		f.t.Logf("%s: %s", program, text)
	}
	return string(out), err
}

func TestOpenSSH(t *testing.T) {
	f := serve(t, nil)
	big := strings.Repeat("0123456789abcdef", 1<<19)
	for name, test := range map[string]struct {
		stdin  string
		args   []string
		want   string
		status int
	}{
		"command":     {args: []string{"vm", "echo out; exit 7"}, want: "out\n", status: 7},
		"killed":      {args: []string{"vm", "kill -TERM $$"}, status: 255}, // its own way to say it
		"stream":      {stdin: big, args: []string{"vm", "cat"}, want: big},
		"terminal":    {args: []string{"-tt", "vm", "[ -t 0 ] && echo yes"}, want: "yes\r\n"},
		"environment": {args: []string{"-o", "SetEnv=A=b", "vm", "echo $A"}, want: "b\n"},
		"keepalive":   {args: []string{"vm", "sleep 2.5; echo alive"}, want: "alive\n"},
		"left behind": {args: []string{"vm", "sleep 1000 >/dev/null 2>&1 & echo done; kill $!"}, want: "done\n"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := f.openSSH(strings.NewReader(test.stdin), "ssh", test.args...)
			var exit *exec.ExitError
			var status int
			if errors.As(err, &exit) {
				status = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			if out != test.want || status != test.status {
				t.Errorf("status %d, want %d; %d bytes of output, want %d: %.200q", status, test.status, len(out), len(test.want), out)
			}
		})
	}
}

func TestOpenSSHCopy(t *testing.T) {
	f := serve(t, nil)
	dir := t.TempDir()
	want := make([]byte, 5<<20+3)
	_, _ = (&noise{}).Read(want)
	for name, data := range map[string][]byte{"a": want, "b c": {}} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(shortDir(t), "copy")
	if _, err := f.openSSH(nil, "scp", "-s", "-r", "-p", dir, "vm:"+to); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(to, "a"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d arrived, %v", len(got), len(want), err)
	}
	if info, err := os.Stat(filepath.Join(to, "b c")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the other file: %v, %v", info, err)
	}
}
