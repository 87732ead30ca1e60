package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"banger/internal/api"
	"banger/internal/guard"
	"banger/internal/guest"
)

// errNoAnswer is the end of the time to connect.
var errNoAnswer = errors.New("the guest does not answer")

// connect dials the guest and logs in. The end of ctx ends it too.
func connect(ctx context.Context, o Options, limit time.Duration) (*ssh.Client, *link, error) {
	if !o.Booting {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errNoAnswer)
		defer cancel()
	}
	client, l, err := login(ctx, o)
	if err != nil && errors.Is(context.Cause(ctx), errNoAnswer) {
		return nil, nil, api.Errorf(api.CodeTimeout, "%v: there was no connection within %v", errNoAnswer, limit).
			WithHint("see `banger vm logs`; `banger vm restart --force` starts it anew")
	}
	return client, l, err
}

func login(ctx context.Context, o Options) (*ssh.Client, *link, error) {
	config, err := clientConfig(o)
	if err != nil {
		return nil, nil, err
	}
	conn, err := o.Dial(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the guest: %w", err)
	}
	l := &link{Conn: conn}
	// The handshake itself knows no context.
	stop := context.AfterFunc(ctx, guard.Func("end a connection", func() { _ = conn.Close() }))
	defer stop()
	sshConn, channels, requests, err := ssh.NewClientConn(l, "guest", config)
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			return nil, nil, fmt.Errorf("log in to the guest: %w", context.Cause(ctx))
		}
		return nil, nil, loginError(config.User, err)
	}
	return ssh.NewClient(sshConn, channels, requests), l, nil
}

// clientConfig builds the SSH settings: one user key, one accepted host key.
func clientConfig(o Options) (*ssh.ClientConfig, error) {
	pem, err := os.ReadFile(o.Access.KeyPath)
	if err != nil {
		return nil, api.Errorf(api.CodeHost, "read the SSH key: %v", err).
			WithHint("set ssh_key_path to a key without a passphrase, or remove it to have one made")
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return nil, api.Errorf(api.CodeHost, "parse the SSH key %s: %v", o.Access.KeyPath, err).
			WithHint("set ssh_key_path to a key without a passphrase, or remove it to have one made")
	}
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(o.Access.HostKey))
	if err != nil {
		return nil, fmt.Errorf("parse the guest's host key: %w", err)
	}
	user := o.User
	if user == "" {
		user = o.Access.User
	}
	return &ssh.ClientConfig{
		Config: ssh.Config{
			// The cheapest first; which of them that is depends on the
			// guest's CPU, so the server may offer less.
			Ciphers: []string{ssh.CipherAES128GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES256GCM, ssh.CipherAES128CTR},
		},
		User:              user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   ssh.FixedHostKey(hostKey),
		HostKeyAlgorithms: hostKeyAlgorithms(hostKey),
	}, nil
}

// hostKeyAlgorithms keeps a server that has several keys from showing another
// one than the known.
func hostKeyAlgorithms(key ssh.PublicKey) []string {
	if key.Type() == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{key.Type()}
}

// loginError says why the handshake failed. The library has no types for its
// usual causes, and the protocol doesn't tell an unknown user from an unknown
// key.
func loginError(user string, err error) error {
	e := api.Errorf(api.CodeGuest, "log in to the guest as %s: %s", user, guest.Excerpt(err.Error()))
	switch text := err.Error(); {
	case strings.Contains(text, "host key mismatch"):
		return e.WithHint("what answers is not the VM that banger made: restart the VM")
	case strings.Contains(text, "unable to authenticate") && user != "root":
		return e.WithHint("the guest has no user %s, or doesn't know the key: try the user root", user)
	case strings.Contains(text, "unable to authenticate"):
		return e.WithHint("the guest doesn't know the key: restart the VM after a change of ssh_key_path")
	}
	return e
}

// forwardAgent offers the local SSH agent to the command. Like OpenSSH it
// does nothing where no agent runs.
func (r *run) forwardAgent() error {
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil
	}
	if err := agent.ForwardToRemote(r.client, socket); err != nil {
		return fmt.Errorf("forward the SSH agent: %w", err)
	}
	if err := agent.RequestAgentForwarding(r.session); err != nil {
		return r.fault("forward the SSH agent", err)
	}
	return nil
}

// link remembers why a connection can't be read any more, because the SSH
// library reports the end of a channel and the end of everything alike.
type link struct {
	net.Conn
	heard atomic.Uint64 // how often something was read
	mu    sync.Mutex
	err   error
}

func (l *link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n > 0 {
		l.heard.Add(1)
	}
	if err != nil {
		l.mu.Lock()
		if l.err == nil {
			l.err = err
		}
		l.mu.Unlock()
	}
	return n, err
}

// failure returns the first read error, nil while the connection is alive.
func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
