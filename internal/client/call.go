package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"banger/internal/api"
	"banger/internal/guest"
)

// Bounds on what is read of a bangerd, in bytes, so that one that is out of its
// mind takes neither this program's memory nor its time.
const (
	maxReply     = 16 << 20 // of a reply, or of one event
	maxErrorBody = 1 << 20
	maxRest      = 64 << 10 // behind a reply
)

// boundedReader fails when more is to be read than is left. The caller fills it
// up again.
type boundedReader struct {
	r    io.Reader
	left int
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("it says more than makes sense")
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// skipRest reads what is behind a reply: the connection can be used again only
// if the body was read to its end.
func skipRest(body io.Reader) { _, _ = io.CopyN(io.Discard, body, maxRest) }

// Call makes a plain call. args fill the {name} segments of the route's path.
// Errors are *api.Error, except for bugs.
func Call[Req, Reply any](ctx context.Context, c *Client, route api.Route[Req, Reply], req Req, args ...string) (Reply, error) {
	var reply Reply
	resp, err := c.send(ctx, route.Method, route.Path, req, args...)
	if err != nil {
		return reply, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(&boundedReader{resp.Body, maxReply}).Decode(&reply); err != nil {
		return reply, c.explain(ctx, fmt.Errorf("read reply: %w", err))
	}
	skipRest(resp.Body)
	return reply, nil
}

// Stream makes a call that reports progress. Cancelling ctx cancels the work
// at the other end, which undoes it.
func Stream[Req, Reply any](ctx context.Context, c *Client, route api.Stream[Req, Reply], req Req, progress api.ProgressFunc, args ...string) (Reply, error) {
	var reply Reply
	resp, err := c.send(ctx, route.Method, route.Path, req, args...)
	if err != nil {
		return reply, err
	}
	defer resp.Body.Close()
	body := &boundedReader{r: resp.Body}
	events := json.NewDecoder(body)
	for {
		body.left = maxReply
		var ev api.Event
		if err := events.Decode(&ev); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return reply, c.explain(ctx, fmt.Errorf("read events: %w", err))
		}
		switch {
		case ev.Type == api.EventProgress && ev.Progress != nil:
			progress.Report(*ev.Progress)
		case ev.Type == api.EventError && ev.Error != nil:
			return reply, ev.Error
		case ev.Type == api.EventResult:
			if err := json.Unmarshal(ev.Result, &reply); err != nil {
				return reply, c.explain(ctx, fmt.Errorf("read result: %w", err))
			}
			skipRest(resp.Body)
			return reply, nil
		}
	}
}

// send sends a call with a JSON body.
func (c *Client) send(ctx context.Context, method, path string, req any, args ...string) (*http.Response, error) {
	var body io.Reader
	if _, none := req.(api.None); !none {
		data, err := json.Marshal(req)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	r, err := c.request(ctx, method, path, body, args...)
	if err != nil {
		return nil, err
	}
	anyVersion := path == api.GetVersion.Path || path == api.Shutdown.Path
	return c.do(r, anyVersion)
}

// decodeError reads the api.Error that a failed call's body is.
func decodeError(resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return api.Errorf(api.CodeDaemon, "read bangerd's error reply: %v", err)
	}
	var e api.Error
	if err := json.Unmarshal(data, &e); err != nil || e.Code == "" {
		return api.Errorf(api.CodeInternal, "bangerd answered %s: %s", guest.Excerpt(resp.Status), guest.Excerpt(strings.TrimSpace(string(data))))
	}
	return &e
}
