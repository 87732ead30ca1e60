package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/guest"
)

// answer is a bangerd that says the same whatever it is asked.
type answer func(*http.Request) (*http.Response, error)

func (a answer) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

func clientOf(a answer) *Client {
	return &Client{version: "v1", http: &http.Client{Transport: a}}
}

// saying answers with a body.
func saying(body io.Reader) *Client {
	return clientOf(func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{api.VersionHeader: {"v1"}}, Body: io.NopCloser(body), Request: r,
		}, nil
	})
}

// endless is a body that says something and never stops.
type endless struct {
	start io.Reader
	then  byte
	read  int
}

func (e *endless) Read(p []byte) (int, error) {
	n, err := e.start.Read(p)
	if err != nil {
		n = copy(p, bytes.Repeat([]byte{e.then}, len(p)))
	}
	e.read += n
	return n, nil
}

func TestEndlessReplies(t *testing.T) {
	const most = maxReply + 1<<20
	event := `{"type":"progress","progress":{"title":"`
	for name, start := range map[string]string{"a string": `{"version":"`, "spaces": "\n", "an event": event, "after an event": event + `"}}`} {
		plain := &endless{start: strings.NewReader(start), then: ' '}
		if _, err := Call(t.Context(), saying(plain), api.GetUsage, api.None{}); (err == nil) != (name == "after an event") {
			t.Errorf("a call, %s: %v", name, err)
		}
		stream := &endless{start: strings.NewReader(start), then: ' '}
		if _, err := Stream(t.Context(), saying(stream), api.PullImageRoute, api.PullImage{}, nil); !errors.Is(err, api.ErrDaemon) {
			t.Errorf("a stream, %s: %v", name, err)
		}
		if plain.read > most || stream.read > most {
			t.Errorf("%s: %d and %d bytes were read", name, plain.read, stream.read)
		}
	}
	behind := &endless{start: strings.NewReader(`{"type":"result","result":{}}`), then: ' '}
	if _, err := Stream(t.Context(), saying(behind), api.PullImageRoute, api.PullImage{}, nil); err != nil || behind.read > most {
		t.Errorf("behind a result %d bytes were read: %v", behind.read, err)
	}
}

// FuzzReplies lets bangerd answer calls with whatever bytes.
func FuzzReplies(f *testing.F) {
	for _, said := range []string{
		"HTTP/1.1 200 OK\r\nBanger-Version: v1\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nBanger-Version: v1\r\n\r\n" + `{"type":"progress","progress":{"phase":"p","done":-1,"total":9e99}}` + "\n",
		"HTTP/1.1 200 OK\r\nBanger-Version: v1\r\n\r\n" + `{"type":"progress","progress":{"notice":"\u001b[2J"}}{"type":"result","result":{"name":"x"}}`,
		"HTTP/1.1 200 OK\r\nBanger-Version: v1\r\n\r\n" + `{"type":"error","error":{"code":"guest","message":"m","hint":"h","vm":"v"}}`,
		"HTTP/1.1 200 OK\r\nBanger-Version: v1\r\n\r\n" + `{"total":111111111111111111111111111111111111111111111111111111}`,
		"HTTP/1.1 404 " + strings.Repeat("not found ", 300) + "\r\n\r\n<html>",
		"HTTP/1.1 409 C\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"cod\r\n0\r\n\r\n",
		"HTTP/1.1 302 F\r\nLocation: http://elsewhere/\r\n\r\n",
		"HTTP/1.1 200 OK\r\nBanger-Version: v2\r\nContent-Length: 99\r\n\r\n{}",
	} {
		f.Add([]byte(said))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		c := clientOf(func(r *http.Request) (*http.Response, error) {
			resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(said)), r)
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // else it is tried again
			}
			return resp, err
		})
		reported := 0
		_, plain := Call(t.Context(), c, api.GetUsage, api.None{})
		_, stream := Stream(t.Context(), c, api.PullImageRoute, api.PullImage{}, func(api.Progress) { reported++ })
		logs, logErr := c.Logs(t.Context(), "web", false)
		if logErr == nil {
			var out bytes.Buffer
			_, logErr = io.Copy(&out, logs)
			if out.Len() > len(said) {
				t.Errorf("%d bytes of log came out of %d", out.Len(), len(said))
			}
			_ = logs.Close()
		}
		if reported > len(said) {
			t.Errorf("%d events came out of %d bytes", reported, len(said))
		}
		for _, err := range []error{plain, stream, logErr} {
			var known *api.Error
			if err != nil && (!errors.As(err, &known) || known.Code == "" && !bytes.Contains(said, []byte(`"error"`))) {
				t.Errorf("the error isn't one for people: %#v", err)
			}
			// Its own words of an error have the limit of a body.
			if err != nil && len(err.Error()) > 2*guest.MaxText+200 && !bytes.Contains(said, []byte(`"message"`)) {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		}
	})
}
