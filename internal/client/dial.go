package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
)

// guestConn is a connection to a port of a guest's agent, carried by bangerd.
type guestConn struct {
	guest.Conn               // to bangerd
	early      *bufio.Reader // what arrived together with the reply's header
}

// Read reads what the guest sends.
func (g *guestConn) Read(p []byte) (int, error) {
	if g.early.Buffered() > 0 {
		return g.early.Read(p)
	}
	return g.Conn.Read(p)
}

// DialGuest connects to a port of the agent in the VM. ctx bounds connecting
// only.
func (c *Client) DialGuest(ctx context.Context, vm string, port uint32) (guest.Conn, error) {
	r, err := c.request(ctx, http.MethodPost, api.DialPath, nil, vm, portString(port))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", api.UpgradeProtocol)

	conn, err := c.connect(ctx)
	if errors.Is(err, errNotListening) && !startDisabled(ctx) {
		if err := c.Start(ctx); err != nil {
			return nil, err
		}
		conn, err = c.connect(ctx)
	}
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	v := c.watch(ctx)
	defer v.stop()
	inside, err := c.upgrade(v.ctx, conn, r)
	if err != nil {
		conn.Close()
		return nil, c.explain(ctx, v.or(err))
	}
	return inside, nil
}

// upgrade makes a guest connection of one to bangerd. It doesn't close conn.
func (c *Client) upgrade(ctx context.Context, conn net.Conn, r *http.Request) (*guestConn, error) {
	half, ok := conn.(guest.Conn) // of a Unix socket
	if !ok {
		return nil, fmt.Errorf("a %T can't be closed half-way", conn)
	}
	// A deadline in the past wakes the blocked read below.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if err := r.Write(conn); err != nil {
		stop()
		return nil, fmt.Errorf("send request: %w", err)
	}
	early := bufio.NewReader(conn)
	resp, err := http.ReadResponse(early, r)
	if err != nil {
		stop()
		return nil, fmt.Errorf("read reply: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		defer stop()
		if err := c.check(resp, false); err != nil {
			return nil, err
		}
		return nil, api.Errorf(api.CodeInternal, "bangerd answered %s to an upgrade", resp.Status)
	}
	if err := c.check(resp, false); err != nil {
		stop()
		return nil, err
	}
	if !stop() {
		return nil, ctx.Err() // the deadline was or will be set: conn is of no use
	}
	return &guestConn{Conn: half, early: early}, nil
}
