package guest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"banger/internal/conntest"
)

// serveCalls answers calls on a Unix socket by a function, which gets the
// connection after the request has been read.
func serveCalls(t *testing.T, answer func(Request, net.Conn)) *Client {
	t.Helper()
	dial := conntest.ServeUnix(t, func(conn net.Conn) {
		defer conn.Close()
		var r Request
		if ReadLine(bufio.NewReader(conn), &r) == nil {
			answer(r, conn)
		}
	})
	return NewClient(func(ctx context.Context, port uint32) (Conn, error) {
		if port != PortControl {
			t.Errorf("a call went to port %d", port)
		}
		return dial(ctx)
	})
}

func TestCallsEndWithTheirContext(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	c := serveCalls(t, func(Request, net.Conn) { <-release })
	for name, call := range map[string]func(context.Context) error{
		"health":  func(ctx context.Context) error { _, err := c.Health(ctx); return err },
		"boot":    func(ctx context.Context) error { _, err := c.Boot(ctx, BootConfig{}); return err },
		"ready":   func(ctx context.Context) error { _, err := c.Ready(ctx); return err },
		"archive": func(ctx context.Context) error { return c.Archive(ctx, io.Discard) },
		"extract": func(ctx context.Context) error {
			return c.Extract(ctx, ExtractParams{Path: "/x"}, strings.NewReader(""))
		},
		"shutdown": func(ctx context.Context) error { return c.Shutdown(ctx, ShutdownParams{}) },
		"clock":    func(ctx context.Context) error { _, err := c.Clock(ctx, ClockParams{}); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s of a silent agent: %v", name, err)
		}
		cancel()
	}
}

func TestReadyTriesLostConnectionsAgain(t *testing.T) {
	var calls atomic.Int32
	c := serveCalls(t, func(_ Request, conn net.Conn) {
		if calls.Add(1) > 2 { // before, the connection ends without an answer
			_ = WriteLine(conn, Response{Result: []byte(`{"state":"running"}`)})
		}
	})
	if r, err := c.Ready(t.Context()); err != nil || r.State != "running" {
		t.Errorf("got %+v, %v", r, err)
	}
	if got := calls.Load(); got != 3 {
		t.Errorf("%d calls were made", got)
	}
}

func TestOtherCallsAreMadeOnce(t *testing.T) {
	var calls atomic.Int32
	c := serveCalls(t, func(Request, net.Conn) { calls.Add(1) })
	if _, err := c.Boot(t.Context(), BootConfig{}); err == nil {
		t.Error("a boot without an answer succeeded")
	}
	if got := calls.Load(); got != 1 {
		t.Errorf("%d calls were made", got)
	}
}

func TestRemoteErrorsAreTheAgentsWords(t *testing.T) {
	c := serveCalls(t, func(_ Request, conn net.Conn) { _ = WriteLine(conn, Response{Error: "no such disk"}) })
	var remote *RemoteError
	if _, err := c.Ready(t.Context()); !errors.As(err, &remote) || err.Error() != "no such disk" || remote.Call != CallReady {
		t.Errorf("got %v", err)
	}
}

func TestRequestsMayBeLong(t *testing.T) {
	data := make([]byte, 1<<20)
	c := serveCalls(t, func(r Request, conn net.Conn) {
		_ = WriteLine(conn, Response{Result: fmt.Appendf(nil, `{"init":"%d"}`, len(r.Params))})
	})
	r, err := c.Boot(t.Context(), BootConfig{Files: []File{{Path: "/f", Data: data}}})
	if n, _ := strconv.Atoi(r.Init); err != nil || n < len(data) {
		t.Errorf("%s bytes arrived, %v", r.Init, err)
	}
}

// A guest's answers are neither kept nor repeated at any length.
func TestLongAnswers(t *testing.T) {
	for name, say := range map[string]func(net.Conn){
		"error": func(conn net.Conn) { _ = WriteLine(conn, Response{Error: strings.Repeat("é", 20<<10)}) },
		"line": func(conn net.Conn) {
			for sent := 0; ; { // without an end
				n, err := conn.Write([]byte(strings.Repeat("x", 64<<10)))
				if err != nil {
					return
				}
				if sent += n; sent > 4<<20 { // more than sockets hold
					t.Error("the host reads a line without an end")
					return
				}
			}
		},
		"field": func(conn net.Conn) {
			_ = WriteLine(conn, Response{Result: []byte(`{"uptime":"` + strings.Repeat("x", 60<<10) + `"}`)})
		},
		"type": func(conn net.Conn) { _ = WriteLine(conn, strings.Repeat("x", 60<<10)) },
		"number": func(conn net.Conn) {
			_ = WriteLine(conn, Response{Result: []byte(`{"uptime":` + strings.Repeat("9", 60<<10) + `}`)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := serveCalls(t, func(_ Request, conn net.Conn) { say(conn) })
			_, err := c.Health(t.Context())
			if err == nil || len(err.Error()) > MaxText+100 {
				t.Errorf("an error of %d bytes: %.100v", len(fmt.Sprint(err)), err)
			}
			if err != nil && !utf8.ValidString(err.Error()) {
				t.Error("it was cut within a character")
			}
		})
	}
}

// The longest answer that an agent gives is read.
func TestLongestReady(t *testing.T) {
	ready := Ready{State: "degraded"}
	for range MaxFailed {
		ready.Failed = append(ready.Failed, strings.Repeat("u", 255))
	}
	c := serveCalls(t, func(_ Request, conn net.Conn) {
		result, err := json.Marshal(ready)
		if err != nil {
			t.Error(err)
		}
		_ = WriteLine(conn, Response{Result: result})
	})
	if r, err := c.Ready(t.Context()); err != nil || len(r.Failed) != MaxFailed {
		t.Errorf("%d units, %v", len(r.Failed), err)
	}
}

func TestExcerpt(t *testing.T) {
	for said, want := range map[string]string{
		"":                                 "",
		"short\n":                          "short\n",
		"bad\xff\xfe":                      "bad?",
		strings.Repeat("x", MaxText):       strings.Repeat("x", MaxText),
		strings.Repeat("é", MaxText):       strings.Repeat("é", (MaxText-len(ellipsis))/2) + ellipsis,
		"x" + strings.Repeat("é", MaxText): "x" + strings.Repeat("é", (MaxText-len(ellipsis)-1)/2) + ellipsis,
	} {
		got := Excerpt(said)
		if got != want || len(got) > MaxText {
			t.Errorf("%.20q of %d bytes became %.20q of %d, want %d", said, len(said), got, len(got), len(want))
		}
	}
}

func TestArchive(t *testing.T) {
	big := strings.Repeat("x", 3*maxChunk+1)
	for name, test := range map[string]struct {
		answer func(net.Conn)
		want   string // in the error; "" is success
	}{
		"whole": {func(conn net.Conn) {
			chunks := NewChunkWriter(conn)
			_, _ = chunks.Write([]byte(big))
			_ = chunks.Close()
			_ = WriteLine(conn, Response{})
		}, ""},
		"failed": {func(conn net.Conn) {
			chunks := NewChunkWriter(conn)
			_, _ = chunks.Write([]byte(big))
			_ = chunks.Close()
			_ = WriteLine(conn, Response{Error: "a bad sector"})
		}, "a bad sector"},
		"no verdict":            {func(conn net.Conn) { _ = NewChunkWriter(conn).Close() }, "unexpected EOF"},
		"cut within a chunk":    {func(conn net.Conn) { _, _ = conn.Write([]byte{0, 0, 0, 9, 'x'}) }, "unexpected EOF"},
		"cut between chunks":    {func(conn net.Conn) { _, _ = NewChunkWriter(conn).Write([]byte("x")) }, "unexpected EOF"},
		"a chunk out of bounds": {func(conn net.Conn) { _, _ = conn.Write([]byte{255, 0, 0, 0}) }, "a chunk of"},
	} {
		t.Run(name, func(t *testing.T) {
			c := serveCalls(t, func(_ Request, conn net.Conn) {
				_ = WriteLine(conn, Response{})
				test.answer(conn)
			})
			var got strings.Builder
			err := c.Archive(t.Context(), &got)
			if test.want == "" && (err != nil || got.String() != big) {
				t.Errorf("got %d bytes, %v", got.Len(), err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v", err)
			}
		})
	}
	refuses := serveCalls(t, func(_ Request, conn net.Conn) { _ = WriteLine(conn, Response{Error: "not now"}) })
	if err := refuses.Archive(t.Context(), io.Discard); err == nil || err.Error() != "not now" {
		t.Errorf("a refusal: %v", err)
	}
}
