package guest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Dialer connects to a port of a guest's agent. It waits, until ctx ends, for
// a guest that is still booting.
type Dialer func(ctx context.Context, port uint32) (net.Conn, error)

// Client makes control calls. Every call is a connection of its own and ends
// with its context; Client keeps no state.
type Client struct {
	dial Dialer
}

// NewClient returns a client that connects by dial.
func NewClient(dial Dialer) *Client { return &Client{dial} }

// Error is a failure in the agent's own words.
type Error struct {
	Call Call
	Msg  string
}

func (e *Error) Error() string { return "guest: " + e.Msg }

// retryDelay is the pause between tries to reach an agent that doesn't answer
// yet.
const retryDelay = 20 * time.Millisecond

// Health asks how the agent is. It tries again, until ctx ends, while no agent
// answers: it is the call to wait for a booting guest with.
func (c *Client) Health(ctx context.Context) (Health, error) {
	for {
		var health Health
		err := c.call(ctx, CallHealth, nil, &health)
		var refused *Error
		if err == nil || errors.As(err, &refused) {
			return health, err
		}
		select {
		case <-ctx.Done():
			return Health{}, err
		case <-time.After(retryDelay):
		}
	}
}

// Boot gives the guest its configuration and returns when everything is
// prepared for its init.
func (c *Client) Boot(ctx context.Context, config BootConfig) (BootResult, error) {
	var result BootResult
	err := c.call(ctx, CallBoot, config, &result)
	return result, err
}

// Ready returns once the guest's init has finished.
func (c *Client) Ready(ctx context.Context) (Ready, error) {
	var ready Ready
	err := c.call(ctx, CallReady, nil, &ready)
	return ready, err
}

// Shutdown orders the guest to go down and returns when the agent has taken
// the order.
func (c *Client) Shutdown(ctx context.Context, params ShutdownParams) error {
	return c.call(ctx, CallShutdown, params, nil)
}

// Extract unpacks a tar stream below path, which is made if it is missing.
func (c *Client) Extract(ctx context.Context, path string, tar io.Reader) error {
	s, err := c.open(ctx, CallExtract, ExtractParams{Path: path})
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.receive(nil); err != nil { // go ahead
		return err
	}
	_, copyErr := io.Copy(s.conn, tar)
	if copyErr == nil {
		copyErr = closeWrite(s.conn)
	}
	// A guest that gives up says why and stops reading: its word counts more
	// than the write error that follows.
	if err := s.receive(nil); err != nil {
		var refused *Error
		if copyErr != nil && !errors.As(err, &refused) {
			return fmt.Errorf("send files to the guest: %w", copyErr)
		}
		return err
	}
	if copyErr != nil {
		return fmt.Errorf("send files to the guest: %w", copyErr)
	}
	return nil
}

func closeWrite(conn net.Conn) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("%T can't be closed for writing only", conn)
	}
	return half.CloseWrite()
}

// call makes a call that has one request and one response.
func (c *Client) call(ctx context.Context, name Call, params, result any) error {
	s, err := c.open(ctx, name, params)
	if err != nil {
		return err
	}
	defer s.close()
	return s.receive(result)
}

// stream is one call's connection.
type stream struct {
	ctx  context.Context
	name Call
	conn net.Conn
	in   *bufio.Reader
	stop func() bool
}

// open connects and sends the request. The connection is cut when ctx ends.
func (c *Client) open(ctx context.Context, name Call, params any) (*stream, error) {
	request := Request{Call: name}
	if params != nil {
		data, err := json.Marshal(params)
		if err != nil {
			return nil, fmt.Errorf("encode %s request: %w", name, err)
		}
		request.Params = data
	}
	conn, err := c.dial(ctx, PortControl)
	if err != nil {
		return nil, fmt.Errorf("reach the guest's agent: %w", err)
	}
	s := &stream{ctx: ctx, name: name, conn: conn, in: bufio.NewReader(conn)}
	s.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	if err := json.NewEncoder(conn).Encode(request); err != nil {
		s.close()
		return nil, s.failed("send", err)
	}
	return s, nil
}

// receive reads one response.
func (s *stream) receive(result any) error {
	line, err := s.in.ReadBytes('\n')
	if err != nil {
		return s.failed("read the answer to", err)
	}
	var response Response
	if err := json.Unmarshal(line, &response); err != nil {
		return s.failed("decode the answer to", err)
	}
	if response.Error != "" {
		return &Error{Call: s.name, Msg: response.Error}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(response.Result, result); err != nil {
		return s.failed("decode the answer to", err)
	}
	return nil
}

// failed prefers the reason for which the connection was cut, if it was.
func (s *stream) failed(what string, err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("%s the guest's call %s: %w", what, s.name, err)
}

func (s *stream) close() {
	s.stop()
	_ = s.conn.Close()
}
