// Package client calls bangerd over its unix socket, and starts it when none
// runs.
package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/paths"
)

const (
	// maxTries is how often a call is sent, as long as the daemon can't have
	// done it or may do it twice.
	maxTries = 4
	// retryPause lets a killed daemon's socket become unreachable.
	retryPause = 20 * time.Millisecond
)

// errNotListening says that nothing answers on the socket, so that no byte of
// the request was sent.
var errNotListening = errors.New("nothing listens")

// Config is what a Client is made of.
type Config struct {
	Layout  paths.Layout
	Version string // of this program; bangerd must be of the same
	// Executable is the bangerd to start; if it is empty, bangerd is looked
	// for beside this program and then on PATH.
	Executable string

	silence time.Duration // 0: the constant of that name
}

// Client calls the bangerd of one layout. It is safe for concurrent use.
type Client struct {
	layout     paths.Layout
	version    string
	executable string
	silence    time.Duration
	http       *http.Client
}

// New returns a client. It connects at the first call.
func New(cfg Config) *Client {
	c := &Client{layout: cfg.Layout, version: cfg.Version, executable: cfg.Executable, silence: cmp.Or(cfg.silence, silence)}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.connect(ctx) },
		// Nothing but the socket is ever talked to.
		Proxy: nil,
	}}
	return c
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// connect connects to the socket; errNotListening if no bangerd is there.
func (c *Client) connect(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.layout.Socket())
	if isNotListening(err) {
		return nil, fmt.Errorf("%w on %s", errNotListening, c.layout.Socket())
	}
	if err != nil {
		return nil, fmt.Errorf("connect to bangerd: %w", err)
	}
	return conn, nil
}

// request makes a request of a call. args fill the {name} segments of path.
func (c *Client) request(ctx context.Context, method, path string, body io.Reader, args ...string) (*http.Request, error) {
	filled, err := fill(path, args)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://bangerd"+filled, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	r.Header.Set(api.VersionHeader, c.version)
	return r, nil
}

// fill puts args in the place of path's {name} segments, in order.
func fill(path string, args []string) (string, error) {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if !strings.HasPrefix(s, "{") {
			continue
		}
		if len(args) == 0 {
			return "", fmt.Errorf("path %s: no value for %s", path, s)
		}
		// A dot segment would be resolved away and call something else.
		if args[0] == "" || args[0] == "." || args[0] == ".." {
			return "", api.Errorf(api.CodeInvalid, "%q is not a name", args[0])
		}
		segments[i], args = url.PathEscape(args[0]), args[1:]
	}
	if len(args) > 0 {
		return "", fmt.Errorf("path %s: too many values", path)
	}
	return strings.Join(segments, "/"), nil
}

// do sends r, starting bangerd if none runs, and returns the reply if it is a
// success. anyVersion accepts a bangerd of another version. One that doesn't
// answer is given up, also while the reply's body is read.
func (c *Client) do(r *http.Request, anyVersion bool) (*http.Response, error) {
	v := c.watch(r.Context())
	resp, err := c.tryHard(r.WithContext(v.ctx), anyVersion)
	if err != nil {
		defer v.stop()
		return nil, v.or(err)
	}
	v.hear()
	resp.Body = &watchedBody{resp.Body, v}
	return resp, nil
}

// tryHard is do without the vigil.
func (c *Client) tryHard(r *http.Request, anyVersion bool) (*http.Response, error) {
	resp, err := c.http.Do(r)
	for tries := 1; err != nil && r.Context().Err() == nil && tries < maxTries; tries++ {
		switch {
		case errors.Is(err, errNotListening) && !startDisabled(r.Context()):
			if err := c.Start(r.Context()); err != nil {
				return nil, err
			}
		case isDying(err) && r.Method == http.MethodGet:
			time.Sleep(retryPause)
		default:
			return nil, c.explain(r.Context(), err)
		}
		if r, err = again(r); err == nil {
			resp, err = c.http.Do(r)
		}
	}
	if err != nil {
		return nil, c.explain(r.Context(), err)
	}
	if err := c.check(resp, anyVersion); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// isDying recognises a bangerd that was killed just now: the kernel still took
// a connection for it, or had one. A call that changes nothing can be repeated.
func isDying(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)
}

// again returns a copy of r to send once more.
func again(r *http.Request) (*http.Request, error) {
	r = r.Clone(r.Context())
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, fmt.Errorf("repeat request: %w", err)
		}
		r.Body = body
	}
	return r, nil
}

// check returns the error that resp is, if any.
func (c *Client) check(resp *http.Response, anyVersion bool) error {
	if resp.StatusCode/100 > 2 {
		return decodeError(resp)
	}
	theirs := resp.Header.Get(api.VersionHeader)
	if theirs != c.version && !anyVersion {
		return versionError(c.version, theirs)
	}
	return nil
}

// versionError is for a bangerd that doesn't check the version by itself.
func versionError(ours, theirs string) error {
	if theirs == "" {
		theirs = "unknown"
	}
	return api.Errorf(api.CodeVersion, "banger is version %s, but the running bangerd is version %s", ours, guest.Excerpt(theirs)).
		WithHint("run: banger daemon restart (running VMs go on)")
}

// explain turns a failure to get a reply into what the user is told.
func (c *Client) explain(ctx context.Context, err error) error {
	var known *api.Error
	var silent *SilentError
	switch {
	case errors.As(err, &silent):
		return silent
	case errors.As(err, &known):
		return known // without net/http's method and URL
	case errors.Is(ctx.Err(), context.Canceled):
		return api.Errorf(api.CodeCancelled, "cancelled")
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return api.Errorf(api.CodeTimeout, "bangerd did not answer in time")
	case errors.Is(err, errNotListening):
		return api.Errorf(api.CodeDaemon, "bangerd is not running").WithHint("run: banger daemon start")
	default:
		return api.Errorf(api.CodeDaemon, "lost bangerd: %s", guest.Excerpt(rootCause(err).Error())).
			WithHint("its log is %s", c.layout.DaemonLog())
	}
}

// rootCause strips what net/http and net say around an error of the kernel: a
// URL and addresses that mean nothing to the user.
func rootCause(err error) error {
	var errno syscall.Errno
	var u *url.Error
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it has closed the connection")
	case errors.As(err, &u):
		return u.Err
	}
	return err
}

// noStart is the context key of WithoutStart.
type noStart struct{}

// WithoutStart returns a context whose calls fail with api.CodeDaemon when no
// bangerd runs, instead of starting one.
func WithoutStart(ctx context.Context) context.Context {
	return context.WithValue(ctx, noStart{}, true)
}

func startDisabled(ctx context.Context) bool { return ctx.Value(noStart{}) != nil }

// Logs opens the console log of a VM; with follow it ends only when ctx does
// or the reader is closed.
func (c *Client) Logs(ctx context.Context, vm string, follow bool) (io.ReadCloser, error) {
	r, err := c.request(ctx, http.MethodGet, api.LogsPath, nil, vm)
	if err != nil {
		return nil, err
	}
	if follow {
		r.URL.RawQuery = "follow=1"
	}
	resp, err := c.do(r, false)
	if err != nil {
		return nil, err
	}
	return &logReader{ReadCloser: resp.Body, ctx: ctx, client: c}, nil
}

// logReader explains read errors.
type logReader struct {
	io.ReadCloser
	ctx    context.Context
	client *Client
}

func (l *logReader) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = l.client.explain(l.ctx, err)
	}
	return n, err
}

// portString formats a guest port for a path.
func portString(port uint32) string { return strconv.FormatUint(uint64(port), 10) }
