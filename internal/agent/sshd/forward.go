package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"banger/internal/guest"
)

const (
	// dialTimeout is how long a forwarded connection may take to come about.
	dialTimeout = 30 * time.Second
	// lingerTime is how long one may take to swallow what is left for it after
	// the client has closed its end.
	lingerTime = 30 * time.Second
)

// dialTCP serves a direct-tcpip channel (RFC 4254, section 7.2): a connection
// from here to where the client wants.
func (c *connection) dialTCP(ctx context.Context, nc ssh.NewChannel) error {
	msg, err := parse[struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}](nc.ExtraData())
	if err != nil {
		return nc.Reject(ssh.ConnectionFailed, err.Error())
	}
	hosts := []string{msg.Host}
	if msg.Host == "localhost" {
		// An image may lack the file that has the name.
		hosts = []string{"127.0.0.1", "::1"}
	}
	return c.dial(ctx, nc, "tcp", addresses(hosts, msg.Port))
}

// dialUnix serves a direct-streamlocal@openssh.com channel: a connection to a
// Unix socket here.
func (c *connection) dialUnix(ctx context.Context, nc ssh.NewChannel) error {
	msg, err := parse[struct {
		Path      string
		Reserved0 string
		Reserved1 uint32
	}](nc.ExtraData())
	if err != nil {
		return nc.Reject(ssh.ConnectionFailed, err.Error())
	}
	return c.dial(ctx, nc, "unix", []string{msg.Path})
}

func addresses(hosts []string, port uint32) []string {
	list := make([]string, len(hosts))
	for i, host := range hosts {
		list[i] = net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
	}
	return list
}

// dial joins a channel to the first of the addresses that answers.
func (c *connection) dial(ctx context.Context, nc ssh.NewChannel, network string, addresses []string) error {
	dialer := net.Dialer{Timeout: dialTimeout}
	var failures []error
	for _, address := range addresses {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		channel, requests, err := nc.Accept()
		if err != nil {
			_ = conn.Close()
			return fmt.Errorf("accept a forwarded connection: %w", err)
		}
		join(channel, requests, conn)
		return nil
	}
	// It is the client that is told, as it is the client's address.
	return nc.Reject(ssh.ConnectionFailed, errors.Join(failures...).Error())
}

// join copies both ways until both ends are done, or one has failed. The end of
// one way is passed on, while the other goes on.
func join(channel ssh.Channel, requests <-chan *ssh.Request, conn net.Conn) {
	var copies sync.WaitGroup
	closeBoth := func() {
		_ = conn.Close()
		_ = channel.Close()
	}
	copies.Go(func() {
		if _, err := io.Copy(channel, conn); err != nil {
			closeBoth()
			return
		}
		_ = channel.CloseWrite()
	})
	sent := make(chan struct{})
	copies.Go(func() {
		defer close(sent)
		if _, err := io.Copy(conn, channel); err != nil {
			closeBoth()
			return
		}
		if half, ok := conn.(guest.Conn); ok {
			_ = half.CloseWrite()
		}
	})
	copied := make(chan struct{})
	go func() {
		copies.Wait()
		closeBoth()
		close(copied)
	}()
	// The requests end when the client closes the channel, of its own accord
	// or in answer. What it has sent before that is still to be delivered, but
	// it wants nothing more.
	ssh.DiscardRequests(requests)
	_ = conn.SetWriteDeadline(time.Now().Add(lingerTime))
	<-sent
	closeBoth()
	<-copied
}

// remoteListeners are the sockets here whose connections go to the client.
type remoteListeners struct {
	conn *connection

	mu     sync.Mutex
	closed bool
	open   map[string]net.Listener // by the name that cancels it
}

// tcpForward is the payload of tcpip-forward and of its cancellation (RFC
// 4254, section 7.1).
type tcpForward struct {
	Address string
	Port    uint32
}

// socketForward is that of streamlocal-forward@openssh.com.
type socketForward struct {
	Path string
}

func (f tcpForward) key() string    { return addresses([]string{f.Address}, f.Port)[0] }
func (f socketForward) key() string { return "unix:" + f.Path }

// openTCP listens on a port and returns the answer to the client: its number
// if it was the system's choice.
func (r *remoteListeners) openTCP(payload []byte) (reply []byte, err error) {
	msg, err := parse[tcpForward](payload)
	if err != nil {
		return nil, err
	}
	host := msg.Address
	switch host {
	case "localhost":
		host = "127.0.0.1"
	case "0.0.0.0", "*":
		host = "" // IPv6 as well, as sshd does it
	}
	l, err := net.Listen("tcp", addresses([]string{host}, msg.Port)[0])
	if err != nil {
		return nil, err
	}
	if msg.Port == 0 {
		msg.Port = portOf(l.Addr())
		reply = ssh.Marshal(struct{ Port uint32 }{msg.Port})
	}
	err = r.add(msg.key(), l, "forwarded-tcpip", func(conn net.Conn) []byte {
		origin, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		return ssh.Marshal(struct {
			Address       string
			Port          uint32
			OriginAddress string
			OriginPort    uint32
		}{msg.Address, msg.Port, origin, portOf(conn.RemoteAddr())})
	})
	return reply, err
}

func portOf(addr net.Addr) uint32 {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return uint32(tcp.Port)
	}
	return 0
}

// openUnix listens on a Unix socket of the user's.
func (r *remoteListeners) openUnix(payload []byte) error {
	msg, err := parse[socketForward](payload)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(msg.Path) {
		return fmt.Errorf("listen on %q: the path must be absolute", msg.Path)
	}
	l, err := listenUnix(msg.Path, r.conn.user)
	if err != nil {
		return err
	}
	return r.add(msg.key(), l, "forwarded-streamlocal@openssh.com", func(net.Conn) []byte {
		return ssh.Marshal(struct{ Path, Reserved string }{Path: msg.Path})
	})
}

// add remembers a listener and passes its connections on.
func (r *remoteListeners) add(key string, l net.Listener, channelType string, payload func(net.Conn) []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.open[key] != nil {
		return errors.Join(fmt.Errorf("listen on %s: there is a listener, or the connection is gone", key), l.Close())
	}
	if r.open == nil {
		r.open = make(map[string]net.Listener)
	}
	r.open[key] = l
	r.conn.passOn(l, channelType, payload)
	return nil
}

func (r *remoteListeners) cancelTCP(payload []byte) error {
	msg, err := parse[tcpForward](payload)
	if err != nil {
		return err
	}
	return r.cancel(msg.key())
}

func (r *remoteListeners) cancelUnix(payload []byte) error {
	msg, err := parse[socketForward](payload)
	if err != nil {
		return err
	}
	return r.cancel(msg.key())
}

func (r *remoteListeners) cancel(key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.open[key]
	if l == nil {
		return fmt.Errorf("cancel %s: nothing listens there", key)
	}
	delete(r.open, key)
	return l.Close()
}

// closeAll ends the listening for good.
func (r *remoteListeners) closeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, l := range r.open {
		_ = l.Close()
	}
}
