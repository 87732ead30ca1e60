package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
)

const (
	// silence is how long a call may get nothing from bangerd until that is asked
	// whether it is there, and how long it may take to answer this.
	silence = 10 * time.Second
	// questions is how many of them in a row have to be in vain. They are counted,
	// since a client that was stopped or asleep has heard nothing either.
	questions = 2
)

// vigil ends a call to a bangerd that hangs or is stopped. Such a bangerd still
// gets connections, which the kernel makes, and never answers. A call that takes
// long doesn't look different, so bangerd is asked for its version meanwhile.
type vigil struct {
	client *Client
	ctx    context.Context // for the call
	cancel context.CancelCauseFunc
	heard  chan struct{}
}

// SilentError is that of a bangerd that is there and doesn't answer, an
// api.ErrDaemon.
type SilentError struct{ told *api.Error }

func (e *SilentError) Error() string { return e.told.Error() }

// Unwrap returns the *api.Error.
func (e *SilentError) Unwrap() error { return e.told }

// watch begins to watch over a call, until stop is called.
func (c *Client) watch(ctx context.Context) *vigil {
	ctx, cancel := context.WithCancelCause(ctx)
	v := &vigil{client: c, ctx: ctx, cancel: cancel, heard: make(chan struct{}, 1)}
	go v.run()
	return v
}

func (v *vigil) stop() { v.cancel(nil) }

// hear notes that bangerd has sent something.
func (v *vigil) hear() {
	select {
	case v.heard <- struct{}{}:
	default:
	}
}

// or returns err, or why the vigil has ended the call, of which err came.
func (v *vigil) or(err error) error {
	var silent *SilentError
	if err != nil && errors.As(context.Cause(v.ctx), &silent) {
		return silent
	}
	return err
}

func (v *vigil) run() {
	for {
		select {
		case <-v.ctx.Done():
			return
		case <-v.heard:
			continue
		case <-time.After(v.client.silence):
		}
		silent := v.client.askWhetherThere(v.ctx)
		select {
		case <-v.heard: // after all
		default:
			if silent != nil {
				v.cancel(silent)
				return
			}
		}
	}
}

// CheckAlive returns an api.ErrDaemon that names bangerd's process if one listens
// and answers nothing. It takes as long as such a bangerd is waited for.
func (c *Client) CheckAlive(ctx context.Context) error {
	var silent *SilentError
	if errors.As(c.askWhetherThere(ctx), &silent) {
		return silent
	}
	return nil
}

// askWhetherThere returns a *SilentError if bangerd takes questions and doesn't
// answer them. That it is gone the call finds out by itself.
func (c *Client) askWhetherThere(ctx context.Context) error {
	pid := 0
	for range questions {
		err := c.ask(ctx, &pid)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return nil
		}
	}
	if pid == 0 {
		return &SilentError{api.Errorf(api.CodeDaemon, "bangerd does not answer").WithHint("its log is %s", c.layout.DaemonLog())}
	}
	return &SilentError{api.Errorf(api.CodeDaemon, "bangerd, pid %d, does not answer", pid).
		WithHint("if it was stopped, let it go on with: kill -CONT %d; else end it with: kill -9 %d (running VMs go on)", pid, pid)}
}

// ask asks bangerd for its version on a connection of its own. It notes the
// process that listens.
func (c *Client) ask(ctx context.Context, pid *int) error {
	ctx, cancel := context.WithTimeout(ctx, c.silence)
	defer cancel()
	r, err := c.request(ctx, api.GetVersion.Method, api.GetVersion.Path, nil)
	if err != nil {
		return err
	}
	connect := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := c.connect(ctx)
		if err == nil {
			*pid, err = listenerOf(conn)
		}
		return conn, err
	}
	once := &http.Client{Transport: &http.Transport{DialContext: connect, DisableKeepAlives: true}}
	resp, err := once.Do(r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// listenerOf returns the pid of the process that listens at the other end; 0 if
// it is in a pid namespace that this process can't see.
func listenerOf(conn net.Conn) (int, error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%T is not a unix socket", conn)
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	var peerErr error
	err = raw.Control(func(fd uintptr) { peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, peerErr); err != nil {
		return 0, fmt.Errorf("ask who listens: %w", err)
	}
	return int(peer.Pid), nil
}

// watchedBody is a reply's body, whose vigil it ends when it is closed.
type watchedBody struct {
	io.ReadCloser
	vigil *vigil
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.vigil.hear()
	}
	if errors.Is(err, io.EOF) {
		return n, err
	}
	return n, b.vigil.or(err)
}

func (b *watchedBody) Close() error {
	b.vigil.stop()
	return b.ReadCloser.Close()
}
