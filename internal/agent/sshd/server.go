package sshd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"banger/internal/agent/cgroup"
)

// etcDir has the files that name users and groups.
const etcDir = "/etc"

const (
	// loginGrace is how long a client may take to log in. Under software
	// emulation a login takes most of a second.
	loginGrace = 2 * time.Minute
	// maxAuthTries is far above sshd's 6: a client offers all the keys of its
	// SSH agent, one by one, and keys can't be guessed.
	maxAuthTries = 100
)

// Config is what a Server needs to know.
type Config struct {
	// HostKey proves the server's identity.
	HostKey ssh.Signer
	// AuthorizedKeys may log in, each as any user, see lookupUser. When the
	// server itself doesn't run as root, only its own user can log in.
	AuthorizedKeys []ssh.PublicKey
	// Env is added to the environment of every command. It overrides what
	// the image sets, and is overridden by what the client sets.
	Env map[string]string
	// SFTPServer is the argument vector of a program that serves SFTP on its
	// standard input and output, started as the session's user. It is meant to be
	// the agent's own binary, whose main then calls ServeSFTP. Empty means
	// that the sftp subsystem is refused.
	SFTPServer []string
	// Ciphers are the ciphers to offer. nil means those that suit the CPU.
	Ciphers []string
	// Groups has a control group for each command; nil leaves them in the
	// server's own.
	Groups *cgroup.Tree
	// Log takes events that no client is told of. nil drops them.
	Log *slog.Logger

	drainGrace time.Duration // 0 means the constant of that name
}

// Server serves SSH connections. Its children must be reaped by nobody else:
// a process that waits for any child (an init) must be another one.
type Server struct {
	config Config
	ssh    *ssh.ServerConfig
	log    *slog.Logger
}

// New makes a server that serves nothing yet. Signals that this process ignores
// it receives and drops from now on; see receiveIgnored.
func New(config Config) *Server {
	receiveIgnored()
	s := &Server{config: config, log: config.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.config.drainGrace == 0 {
		s.config.drainGrace = drainGrace
	}
	offered := config.Ciphers
	if offered == nil {
		offered = ciphers(cpuIsEmulated())
	}
	s.ssh = &ssh.ServerConfig{
		Config:            ssh.Config{Ciphers: offered},
		ServerVersion:     "SSH-2.0-banger",
		MaxAuthTries:      maxAuthTries,
		PublicKeyCallback: s.authorize,
	}
	s.ssh.AddHostKey(config.HostKey)
	return s
}

// Serve accepts connections until ctx ends or the listener fails. Then it
// closes the listener and every connection, and returns once they are done:
// nil after the end of ctx, the listener's error otherwise.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			_ = l.Close()
			return fmt.Errorf("accept an SSH connection: %w", err)
		}
		conns.Go(func() { s.ServeConn(ctx, conn) })
	}
}

// ServeConn serves one connection. It returns when the connection has ended,
// which it does at the end of ctx at the latest, and hangs up the commands
// that still run.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	grace := time.AfterFunc(loginGrace, func() { _ = nc.Close() })
	sshConn, channels, requests, err := ssh.NewServerConn(nc, s.ssh)
	grace.Stop()
	if err != nil {
		s.log.Info("SSH login", "error", err)
		_ = nc.Close()
		return
	}
	defer sshConn.Close()
	user, err := lookupUser(etcDir, sshConn.User())
	if err != nil {
		s.log.Info("SSH login", "user", sshConn.User(), "error", err)
		refuseAll(channels, requests, err)
		return
	}
	c := newConnection(ctx, s, sshConn, user)
	c.serve(ctx, channels, requests)
}

// refuseAll tells a client with a good key why it can do nothing. A failed
// login would only say that it failed.
func refuseAll(channels <-chan ssh.NewChannel, requests <-chan *ssh.Request, why error) {
	go ssh.DiscardRequests(requests)
	for nc := range channels {
		// Where the connection is dead, channels ends next.
		_ = nc.Reject(ssh.Prohibited, why.Error())
	}
}

// authorize accepts the known keys for the users that commands can be run as,
// and for users that don't exist, see refuseAll.
func (s *Server) authorize(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if !s.knows(key) {
		return nil, errors.New("unknown key")
	}
	user, err := lookupUser(etcDir, meta.User())
	if err == nil && os.Geteuid() != 0 && !user.isSelf() {
		return nil, fmt.Errorf("log in as %s: the server itself is not root", user.name)
	}
	return nil, nil
}

func (s *Server) knows(key ssh.PublicKey) bool {
	offered := key.Marshal()
	for _, known := range s.config.AuthorizedKeys {
		if bytes.Equal(known.Marshal(), offered) {
			return true
		}
	}
	return false
}
