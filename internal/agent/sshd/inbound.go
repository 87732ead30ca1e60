package sshd

import (
	"errors"
	"net"
	"os"
)

// passOn gives every connection that a listener accepts to the client, each on
// a channel of its own, until the listener is closed.
func (c *connection) passOn(l net.Listener, channelType string, payload func(net.Conn) []byte) {
	c.work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					c.log.Warn("accept a connection to forward", "address", l.Addr(), "error", err)
				}
				return
			}
			c.work.Go(func() { c.handOver(conn, channelType, payload(conn)) })
		}
	})
}

// handOver gives one connection to the client and returns when it has ended.
func (c *connection) handOver(conn net.Conn, channelType string, payload []byte) {
	channel, requests, err := c.ssh.OpenChannel(channelType, payload)
	if err != nil { // the client doesn't want it
		_ = conn.Close()
		return
	}
	join(channel, requests, conn)
}

// listenUnix makes a socket that only the user and root can connect to.
func listenUnix(path string, user *account) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	err = os.Chmod(path, 0o600)
	if err == nil && !user.isSelf() {
		err = os.Lchown(path, int(user.uid), int(user.gid))
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
