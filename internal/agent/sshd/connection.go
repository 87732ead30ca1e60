package sshd

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"golang.org/x/crypto/ssh"
)

// connection is one client that has logged in.
type connection struct {
	server  *Server
	ssh     *ssh.ServerConn
	user    *account
	log     *slog.Logger
	service context.Context // of the server; outlives the connection
	remotes *remoteListeners
	work    sync.WaitGroup // everything that ends with the connection

	mu    sync.Mutex
	agent *agentSocket // nil before a session asks for it
}

func newConnection(service context.Context, s *Server, conn *ssh.ServerConn, user *account) *connection {
	c := &connection{server: s, ssh: conn, user: user, log: s.log.With("user", user.name), service: service}
	c.remotes = &remoteListeners{conn: c}
	return c
}

// serve handles the client's channels and requests until the connection ends,
// and returns when all that ends with it is gone.
func (c *connection) serve(ctx context.Context, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	c.work.Go(func() { c.serveRequests(requests) })
	open, cancel := context.WithCancel(ctx)
	defer cancel()
	for nc := range channels {
		c.work.Go(func() { c.serveChannel(open, nc) })
	}
	cancel()
	c.remotes.closeAll()
	c.work.Wait()
	if c.agent != nil { // no session is left that could ask for it
		c.agent.close()
	}
}

func (c *connection) serveChannel(ctx context.Context, nc ssh.NewChannel) {
	var err error
	switch nc.ChannelType() {
	case "session":
		err = c.serveSession(ctx, nc)
	case "direct-tcpip":
		err = c.dialTCP(ctx, nc)
	case "direct-streamlocal@openssh.com":
		err = c.dialUnix(ctx, nc)
	default:
		err = nc.Reject(ssh.UnknownChannelType, "not supported")
	}
	if err != nil && ctx.Err() == nil {
		c.log.Warn("SSH channel", "type", nc.ChannelType(), "error", err)
	}
}

// serveRequests answers the requests that belong to no channel. All but the
// known ones are refused, which is the answer that keepalive@openssh.com wants.
func (c *connection) serveRequests(requests <-chan *ssh.Request) {
	for req := range requests {
		var reply []byte
		var err error
		switch req.Type {
		case "tcpip-forward":
			reply, err = c.remotes.openTCP(req.Payload)
		case "cancel-tcpip-forward":
			err = c.remotes.cancelTCP(req.Payload)
		case "streamlocal-forward@openssh.com":
			err = c.remotes.openUnix(req.Payload)
		case "cancel-streamlocal-forward@openssh.com":
			err = c.remotes.cancelUnix(req.Payload)
		default:
			answer(req, false)
			continue
		}
		if err != nil {
			c.log.Warn("SSH request", "type", req.Type, "error", err)
		}
		if req.WantReply {
			// Where the connection is dead, requests ends next.
			_ = req.Reply(err == nil, reply)
		}
	}
}

// answer replies to a request that wants it. Where the connection is dead, the
// requests end next.
func answer(req *ssh.Request, ok bool) {
	if req.WantReply {
		_ = req.Reply(ok, nil)
	}
}

// parse reads the payload of a message.
func parse[T any](payload []byte) (T, error) {
	var msg T
	if err := ssh.Unmarshal(payload, &msg); err != nil {
		return msg, errors.New("malformed message")
	}
	return msg, nil
}
