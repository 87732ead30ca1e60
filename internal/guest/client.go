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

	"banger/internal/guard"
)

// Conn is a connection that can be closed half-way, as all of those to a guest
// can: what the other side still sends can be read after CloseWrite. Programs
// that read all of their input before they answer need it.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Dialer connects to a port of the agent. It waits, until ctx ends, for a
// guest that is still booting.
type Dialer func(ctx context.Context, port uint32) (Conn, error)

// The most that a call may take when the caller's context allows more. They
// are for an emulated guest on a busy host.
const (
	healthTimeout   = 20 * time.Second
	bootTimeout     = time.Hour // for a guest that copies its image; others have less, by their caller
	readyTimeout    = 15 * time.Minute
	extractTimeout  = 2 * time.Hour
	archiveTimeout  = 2 * time.Hour
	shutdownTimeout = 30 * time.Second
	clockTimeout    = 10 * time.Minute // a guest that stands still answers when it goes on
)

// verdictTimeout is how long an agent that takes no more of a stream may go on
// before it has said why.
const verdictTimeout = 30 * time.Second

// readyRetry is the pause before asking again whether the guest is ready,
// when the agent is between the initramfs and the root filesystem. It grows up
// to readyRetryLast, as a guest may cut each call off.
const (
	readyRetry     = 100 * time.Millisecond
	readyRetryLast = 5 * time.Second
)

// The longest lines of JSON, in bytes. A request may be a BootConfig, which
// carries files. A response comes from a guest; the longest that an agent sends
// names MaxFailed units.
const (
	maxRequest  = 64 << 20
	maxResponse = 64 << 10
)

// RemoteError is the agent's own answer that a call failed.
type RemoteError struct {
	Call Call
	Msg  string // a sentence for the user, see Excerpt
}

func (e *RemoteError) Error() string { return e.Msg }

// Client makes control calls to one guest's agent. Every call opens its own
// connection, so it is safe for concurrent use. Errors that the agent reports
// are a *RemoteError.
type Client struct{ dial Dialer }

// NewClient returns a client that reaches the agent by dial.
func NewClient(dial Dialer) *Client { return &Client{dial} }

// Health asks how the agent is.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var h Health
	return h, c.call(ctx, healthTimeout, CallHealth, nil, &h)
}

// Boot hands the guest its identity and returns just before the image's init
// runs. It may be called once per boot; a second call is refused.
func (c *Client) Boot(ctx context.Context, config BootConfig) (BootResult, error) {
	var r BootResult
	return r, c.call(ctx, bootTimeout, CallBoot, config, &r)
}

// Ready waits until the guest's init system has finished. The agent restarts
// on its way into the root filesystem, so lost connections are tried again.
func (c *Client) Ready(ctx context.Context) (Ready, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for pause := readyRetry; ; pause = min(2*pause, readyRetryLast) {
		var r Ready
		err := c.call(ctx, readyTimeout, CallReady, nil, &r)
		var remote *RemoteError
		if err == nil || errors.As(err, &remote) || ctx.Err() != nil {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, err
		case <-time.After(pause):
		}
	}
}

// Extract unpacks the tar stream r into a directory of the guest.
func (c *Client) Extract(ctx context.Context, p ExtractParams, r io.Reader) error {
	s, err := c.open(ctx, extractTimeout, CallExtract, p)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.response(nil); err != nil { // the agent is ready for the stream
		return err
	}
	// The agent's verdict may come before the end of the stream: it stops
	// reading when it can't write any more.
	verdict := guard.Start("read a guest's answer", func() error {
		accepted := false
		defer func() {
			if !accepted { // by an error or by a bug
				_ = s.conn.Close() // wakes the copy below
			}
		}()
		err := s.response(nil)
		accepted = err == nil
		return err
	})
	src := &source{r: r}
	_, sendErr := io.Copy(s.conn, src)
	if sendErr == nil {
		sendErr = s.conn.CloseWrite()
	}
	switch {
	case sendErr == nil:
	case src.failed:
		_ = s.conn.Close() // wakes the reader of the verdict
	default: // the agent has stopped reading, and its verdict says why
		_ = s.conn.SetReadDeadline(time.Now().Add(verdictTimeout)) // fails if it has closed already
	}
	if sendErr != nil {
		sendErr = s.explain(fmt.Errorf("send files to %s in the guest: %w", p.Path, sendErr))
	}
	err = <-verdict
	var remote *RemoteError
	if sendErr == nil || errors.As(err, &remote) || (err != nil && errors.Is(sendErr, net.ErrClosed)) {
		return err
	}
	return sendErr
}

// source tells whether it was the reader that made a copy fail.
type source struct {
	r      io.Reader
	failed bool
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.failed = s.failed || err != nil && !errors.Is(err, io.EOF)
	return n, err
}

// Archive writes the guest's root filesystem to w as a tar stream, see
// ArchiveParams. After an error, what w has is not a whole archive.
func (c *Client) Archive(ctx context.Context, w io.Writer) error {
	s, err := c.open(ctx, archiveTimeout, CallArchive, ArchiveParams{})
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.response(nil); err != nil {
		return err
	}
	if err := copyChunks(w, s.lines); err != nil {
		var sink *sinkError
		if errors.As(err, &sink) {
			return sink.err
		}
		return s.explain(fmt.Errorf("read the guest's root filesystem: %w", err))
	}
	return s.response(nil)
}

// Shutdown asks the guest to go down and returns when it has begun to.
func (c *Client) Shutdown(ctx context.Context, p ShutdownParams) error {
	return c.call(ctx, shutdownTimeout, CallShutdown, p, nil)
}

// Clock asks for the guest's clock or, with p.Set, corrects it. A guest that
// stands still keeps it waiting for up to ten minutes.
func (c *Client) Clock(ctx context.Context, p ClockParams) (Clock, error) {
	var r Clock
	return r, c.call(ctx, clockTimeout, CallClock, p, &r)
}

// call makes a call without a stream.
func (c *Client) call(ctx context.Context, limit time.Duration, name Call, params, result any) error {
	s, err := c.open(ctx, limit, name, params)
	if err != nil {
		return err
	}
	defer s.close()
	return s.response(result)
}

// stream is a call under way.
type stream struct {
	name  Call
	ctx   context.Context
	conn  Conn
	lines *bufio.Reader
	close func()
}

// open connects and sends the request. The end of ctx, or of limit, closes the
// connection.
func (c *Client) open(ctx context.Context, limit time.Duration, name Call, params any) (*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	request := Request{Call: name}
	if params != nil {
		var err error
		if request.Params, err = json.Marshal(params); err != nil {
			cancel()
			return nil, fmt.Errorf("encode call %s: %w", name, err)
		}
	}
	conn, err := c.dial(ctx, PortControl)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("call %s of the guest's agent: %w", name, err)
	}
	stop := context.AfterFunc(ctx, guard.Func("end a call of a guest", func() { _ = conn.Close() }))
	s := &stream{name: name, ctx: ctx, conn: conn, lines: bufio.NewReader(conn)}
	s.close = func() {
		stop()
		_ = conn.Close()
		cancel()
	}
	if err := WriteLine(conn, request); err != nil {
		err = s.explain(fmt.Errorf("call %s of the guest's agent: %w", name, err))
		s.close()
		return nil, err
	}
	return s, nil
}

// response reads the next response.
func (s *stream) response(result any) error {
	var r Response
	if err := readLine(s.lines, maxResponse, &r); err != nil {
		return s.explain(fmt.Errorf("read the guest agent's answer to %s: %w", s.name, err))
	}
	if r.Error != "" {
		return &RemoteError{Call: s.name, Msg: Excerpt(r.Error)}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(r.Result, result); err != nil {
		return fmt.Errorf("decode the guest agent's answer to %s: %s", s.name, Excerpt(err.Error()))
	}
	return nil
}

// explain makes the end of the context the cause of an error, which otherwise
// reads "use of closed network connection".
func (s *stream) explain(err error) error {
	if s.ctx.Err() != nil {
		return fmt.Errorf("call %s of the guest's agent: %w", s.name, context.Cause(s.ctx))
	}
	return err
}

// WriteLine writes v as one line of JSON.
func WriteLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// ReadLine reads a request, one line of JSON, into v, and nothing behind it.
func ReadLine(r *bufio.Reader, v any) error { return readLine(r, maxRequest, v) }

func readLine(r *bufio.Reader, limit int, v any) error {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return fmt.Errorf("a line of over %d bytes", limit)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			if err := json.Unmarshal(line, v); err != nil {
				return fmt.Errorf("decode: %s", Excerpt(err.Error()))
			}
			return nil
		case !errors.Is(err, bufio.ErrBufferFull):
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
}
