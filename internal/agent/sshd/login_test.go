package sshd

import (
	"context"
	"net"
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
	if c, err := f.login("no-such-user", f.key); err == nil {
		_ = c.Close()
		t.Error("an unknown user can log in")
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
