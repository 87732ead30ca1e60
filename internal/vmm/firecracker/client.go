package firecracker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"banger/internal/guest"
)

// apiTimeout bounds a request whose caller has no deadline.
const apiTimeout = 60 * time.Second

// maxReply bounds a reply and, beside it, its header, in bytes. The longest that
// is asked for has a few hundred.
const maxReply = 64 << 10

// client speaks Firecracker's API over one connection that is kept open.
// Firecracker serves ten at most and handles one request at a time.
type client struct {
	transport *http.Transport
}

// newClient returns a client for the Firecracker whose API socket is in dir.
// It connects at the first request.
func newClient(dir string) *client {
	return &client{&http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialUnix(ctx, dir, apiSocket)
		},
		MaxConnsPerHost:        1,
		MaxResponseHeaderBytes: maxReply,
		DisableCompression:     true, // Firecracker's HTTP server knows none
	}}
}

// apiError is Firecracker's refusal of a request.
type apiError struct {
	request string // method and path
	status  int
	fault   string // Firecracker's words
}

func (e *apiError) Error() string {
	return fmt.Sprintf("Firecracker refuses %s: %s", e.request, e.fault)
}

// do makes a request, without a body if that is nil, and stores the reply's
// in result, which may be nil. Firecracker's refusal is an *apiError.
func (c *client) do(ctx context.Context, r request, result any) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	what := r.method + " " + r.path
	var body io.Reader
	if r.body != nil {
		data, err := json.Marshal(r.body)
		if err != nil {
			return fmt.Errorf("encode %s: %w", what, err)
		}
		body = bytes.NewReader(data) // of known length: chunks aren't understood
	}
	// The host is not looked at, but HTTP wants one.
	req, err := http.NewRequestWithContext(ctx, r.method, "http://localhost"+r.path, body)
	if err != nil {
		return fmt.Errorf("make request %s: %w", what, err)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask Firecracker for %s: %w", what, shorten(err))
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return fmt.Errorf("read Firecracker's answer to %s: %w", what, err)
	}
	if resp.StatusCode/100 != 2 {
		return &apiError{what, resp.StatusCode, guest.Excerpt(faultMessage(data, resp.Status))}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(data, result); err != nil {
		return fmt.Errorf("read Firecracker's answer to %s: %s", what, guest.Excerpt(err.Error()))
	}
	return nil
}

// shorten cuts the text of an error that quotes a malformed reply.
func shorten(err error) error {
	if short := guest.Excerpt(err.Error()); short != err.Error() {
		return errors.New(short)
	}
	return err
}

// faultMessage takes Firecracker's words out of an error's body. Malformed
// HTTP is answered by its HTTP server, whose errors have another form.
func faultMessage(body []byte, status string) string {
	var fault struct {
		FaultMessage string `json:"fault_message"`
		Error        string `json:"error"`
	}
	if err := json.Unmarshal(body, &fault); err == nil {
		switch {
		case fault.FaultMessage != "":
			return fault.FaultMessage
		case fault.Error != "":
			return fault.Error
		}
	}
	if len(body) > 0 {
		return fmt.Sprintf("%s: %.200s", status, body)
	}
	return status
}

// instance asks which VM this is.
func (c *client) instance(ctx context.Context) (instanceInfo, error) {
	var info instanceInfo
	err := c.do(ctx, request{http.MethodGet, "/", nil}, &info)
	return info, err
}

// version asks which Firecracker this is.
func (c *client) version(ctx context.Context) (version, error) {
	var info versionInfo
	if err := c.do(ctx, request{http.MethodGet, "/version", nil}, &info); err != nil {
		return version{}, err
	}
	return parseVersion(info.FirecrackerVersion)
}

// close ends the connection if no request is under way.
func (c *client) close() { c.transport.CloseIdleConnections() }
