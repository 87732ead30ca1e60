package sshd

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestLoginRefused(t *testing.T) {
	f := serve(t, nil)
	stranger, _ := makeKey(t)
	if c, err := f.login(f.user, stranger); err == nil {
		_ = c.Close()
		t.Error("an unknown key can log in")
	}
	conn, err := f.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _, _, err = ssh.NewClientConn(conn, "", &ssh.ClientConfig{
		User:            f.user,
		Auth:            []ssh.AuthMethod{ssh.Password("")},
		HostKeyCallback: ssh.FixedHostKey(f.hostKey.PublicKey()),
	})
	if err == nil {
		t.Error("a password can log in")
	}
}

func TestUnknownUserIsToldSo(t *testing.T) {
	f := serve(t, nil)
	for user, want := range map[string]string{"no-such-user": "no user named no-such-user", "0:no-such-group": "no group named no-such-group"} {
		c, err := f.login(user, f.key)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := c.NewSession(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a session of %s: %v, %v", user, s, err)
		}
		if conn, err := c.Dial("unix", f.socket); err == nil {
			t.Errorf("%s may forward: %v", user, conn)
		}
		_ = c.Close()
	}
}

// TestUserByNumber logs in as a user that only its number names, which only
// root can let happen.
func TestUserByNumber(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	f := serve(t, nil)
	f.user = "54321:12345"
	if got, want := f.output("id -u; id -g; id -G; pwd; echo $HOME"), "54321\n12345\n12345\n/\n/\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.user = "54321"
	if got, want := f.output("id -u; id -g; id -G"), "54321\n0\n0\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRightKeyAfterManyWrongOnes(t *testing.T) {
	f := serve(t, nil)
	var keys []ssh.Signer
	for range 12 {
		key, _ := makeKey(t)
		keys = append(keys, key)
	}
	conn, err := f.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, channels, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{
		User:            f.user,
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(append(keys, f.key)...)},
		HostKeyCallback: ssh.FixedHostKey(f.hostKey.PublicKey()),
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = ssh.NewClient(c, channels, requests).Close()
}

func TestKeepalive(t *testing.T) {
	c := serve(t, nil).client()
	ok, _, err := c.SendRequest("keepalive@openssh.com", true, nil)
	if err != nil || ok {
		t.Errorf("got %v, %v; want a refusal as the sign of life", ok, err)
	}
}

func TestUnknownChannel(t *testing.T) {
	c := serve(t, nil).client()
	if _, _, err := c.OpenChannel("x11", nil); err == nil {
		t.Error("an unknown channel is accepted")
	}
}

func TestManySessionsOnManyConnections(t *testing.T) {
	f := serve(t, nil)
	results := make(chan error)
	const connections, sessions = 3, 8
	for range connections {
		c := f.client()
		for range sessions {
			go func() {
				s, err := c.NewSession()
				if err == nil {
					_, err = s.Output("cat /dev/null")
				}
				results <- err
			}()
		}
	}
	for range connections * sessions {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func TestServeConnEndsWithContext(t *testing.T) {
	f := serve(t, nil)
	server := New(Config{HostKey: f.hostKey})
	here, there := net.Pipe()
	defer here.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.ServeConn(ctx, there)
	}()
	cancel()
	within(t, patience, "ServeConn after the end of its context", func() { <-done })
}
