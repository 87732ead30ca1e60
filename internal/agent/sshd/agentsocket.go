package sshd

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// agentSocket is a Unix socket that leads to the client's authentication
// agent, for SSH_AUTH_SOCK.
type agentSocket struct {
	dir  string
	path string
	ln   net.Listener
}

// forwardAgent makes the connection's agent socket, or returns the path of the
// one it has. Only the user that logged in can reach it.
func (c *connection) forwardAgent() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.agent != nil {
		return c.agent.path, nil
	}
	dir, err := os.MkdirTemp("", "ssh-")
	if err != nil {
		return "", fmt.Errorf("make directory for the agent socket: %w", err)
	}
	a := &agentSocket{dir: dir, path: filepath.Join(dir, "agent")}
	if a.ln, err = net.Listen("unix", a.path); err == nil && !c.user.isSelf() {
		for _, p := range []string{dir, a.path} {
			if err == nil {
				err = os.Chown(p, int(c.user.uid), int(c.user.gid))
			}
		}
	}
	if err != nil {
		a.close()
		return "", fmt.Errorf("make agent socket: %w", err)
	}
	c.agent = a
	go func() {
		for {
			conn, err := a.ln.Accept()
			if err != nil {
				return
			}
			go c.handOver(conn, "auth-agent@openssh.com", nil)
		}
	}()
	return a.path, nil
}

func (a *agentSocket) close() {
	if a.ln != nil {
		_ = a.ln.Close()
	}
	_ = os.RemoveAll(a.dir)
}
