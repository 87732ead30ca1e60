package sshd

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"banger/internal/api"
	host "banger/internal/session"
)

// These tests have the host's side of the conversation, package session, talk
// to the server.

func (f *fixture) run(o host.Options) (result host.Result, stdout, stderr string, err error) {
	f.t.Helper()
	var out, errs bytes.Buffer
	o.Dial = f.dial
	o.Access = api.Access{
		User:    f.user,
		KeyPath: f.keyPath,
		HostKey: string(ssh.MarshalAuthorizedKey(f.hostKey.PublicKey())),
	}
	if o.Stdout == nil {
		o.Stdout = &out
	}
	o.Stderr = &errs
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	result, err = host.Run(ctx, o)
	return result, out.String(), errs.String(), err
}

func TestHostSession(t *testing.T) {
	f := serve(t, nil)
	dir := t.TempDir()
	for name, test := range map[string]struct {
		options host.Options
		stdout  string
		stderr  string
		exit    int
	}{
		"streams": {
			options: host.Options{Command: []string{"sh", "-c", "cat; echo err >&2; exit 3"}, Stdin: strings.NewReader("in")},
			stdout:  "in", stderr: "err\n", exit: 3,
		},
		"directory and environment": {
			options: host.Options{Command: []string{"sh", "-c", "pwd; echo $A"}, Dir: dir, Env: map[string]string{"A": "it's"}},
			stdout:  dir + "\nit's\n",
		},
		"killed": {options: host.Options{Command: []string{"sh", "-c", "kill -TERM $$"}}, exit: 143},
		"terminal": {
			options: host.Options{Command: []string{"sh", "-c", "[ -t 0 ] && echo yes"}, TTY: true},
			stdout:  "yes\r\n",
		},
		"login shell": {options: host.Options{Stdin: strings.NewReader("echo hi; exit 5\n")}, stdout: "hi\n", exit: 5},
	} {
		t.Run(name, func(t *testing.T) {
			result, stdout, stderr, err := f.run(test.options)
			if err != nil {
				t.Fatal(err)
			}
			if stdout != test.stdout || stderr != test.stderr || result.ExitCode != test.exit {
				t.Errorf("got %q, %q, %d", stdout, stderr, result.ExitCode)
			}
		})
	}
}

func TestHostSessionSignals(t *testing.T) {
	f := serve(t, nil)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGKILL} {
		signals := make(chan os.Signal, 1)
		result, _, _, err := f.run(host.Options{
			Command: []string{"sh", "-c", "echo ready; exec sleep 1000"},
			Signals: func() (<-chan os.Signal, func()) { return signals, func() {} },
			Stdout:  writerFunc(func(p []byte) (int, error) { signals <- sig; return len(p), nil }),
		})
		if err != nil || result.ExitCode != 128+int(sig) {
			t.Errorf("%v: %v, %v", sig, result, err)
		}
	}
}

func TestHostSessionLost(t *testing.T) {
	f := serve(t, nil)
	_, _, _, err := f.run(host.Options{
		Command: []string{"sh", "-c", "echo ready; exec sleep 1000"},
		Stdout:  writerFunc(func(p []byte) (int, error) { f.stop(); return len(p), nil }),
	})
	var lost *host.LostError
	if !errors.As(err, &lost) {
		t.Errorf("got %v", err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
