package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger/internal/guest"
	"banger/internal/vmm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeQEMU serves one monitor connection. answer gets each command and writes
// what it likes.
func fakeQEMU(t *testing.T, greeting string, answer func(conn net.Conn, id uint64, command string)) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "qmp")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, greeting)
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			var c struct {
				Execute string
				ID      uint64
			}
			if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
				t.Errorf("the client sends %q: %v", lines.Bytes(), err)
			}
			answer(conn, c.ID, c.Execute)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		done.Wait()
	})
	return socket
}

const greeting = `{"QMP": {"version": {"qemu": {"major": 9}}, "capabilities": ["oob"]}}` + "\r\n"

func ok(conn net.Conn, id uint64) { fmt.Fprintf(conn, "{\"return\": {}, \"id\": %d}\r\n", id) }

func dialTest(t *testing.T, socket string, onEvent func(qmpEvent)) *qmpClient {
	t.Helper()
	c, err := dialQMP(t.Context(), socket, onEvent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestQMPMatchesReplies(t *testing.T) {
	var held []uint64
	socket := fakeQEMU(t, greeting, func(conn net.Conn, id uint64, command string) {
		switch command {
		case "qmp_capabilities":
			ok(conn, id)
		case "refused":
			fmt.Fprintf(conn, `{"id": %d, "error": {"class": "GenericError", "desc": "no"}}`+"\n", id)
		default: // answered in reverse order, between events
			held = append(held, id)
			if len(held) == 2 {
				fmt.Fprintf(conn, `{"event":"STOP","timestamp":{}} {"return":{"n":%d},"id":%d} {"return":{"n":%d},"id":%d} {"return":1,"id":99}`+"\n", held[1], held[1], held[0], held[0])
			}
		}
	})
	events := make(chan string, 1)
	c := dialTest(t, socket, func(e qmpEvent) { events <- e.Name })
	var all sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint64]bool{}
	for range 2 {
		all.Go(func() {
			var result struct{ N uint64 }
			if err := c.Execute(t.Context(), "query", map[string]int{"x": 1}, &result); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[result.N] = true
		})
	}
	all.Wait()
	if !seen[2] || !seen[3] {
		t.Errorf("replies went to the wrong commands: %v", seen)
	}
	if got := <-events; got != "STOP" {
		t.Errorf("event %q", got)
	}
	var refusal *qmpError
	if err := c.Execute(t.Context(), "refused", nil, nil); !errors.As(err, &refusal) || refusal.Desc != "no" {
		t.Errorf("refused command: %v", err)
	}
}

func TestQMPGivesUp(t *testing.T) {
	socket := fakeQEMU(t, greeting, func(conn net.Conn, id uint64, command string) {
		switch command {
		case "qmp_capabilities", "after":
			ok(conn, id)
		case "quit":
			fmt.Fprint(conn, `{"event":"SHUTDOWN","data":{"reason":"host-qmp-quit"}}`+"\n")
			_ = conn.Close()
		}
	})
	events := make(chan string, 1)
	c := dialTest(t, socket, func(e qmpEvent) { events <- e.Name })
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := c.Execute(ctx, "never answered", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command without an answer: %v", err)
	}
	if err := c.Execute(t.Context(), "after", nil, nil); err != nil {
		t.Errorf("a command after one without an answer: %v", err)
	}
	if err := c.Execute(t.Context(), "quit", nil, nil); !errors.Is(err, errQMPClosed) {
		t.Errorf("a command that ends QEMU: %v", err)
	}
	<-c.Done()
	if got := <-events; got != "SHUTDOWN" {
		t.Errorf("last event %q", got)
	}
	if err := c.Execute(t.Context(), "late", nil, nil); err == nil {
		t.Error("a command on an ended connection succeeds")
	}
}

func TestQMPGreeting(t *testing.T) {
	nothing := func(net.Conn, uint64, string) {}
	for _, bad := range []string{"hello\n", "{}\n", `{"return":{}}` + "\n"} {
		if _, err := dialQMP(t.Context(), fakeQEMU(t, bad, nothing), nil); err == nil {
			t.Errorf("greeting %q is accepted", bad)
		}
	}
	// QEMU serves another client and greets nobody.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if _, err := dialQMP(ctx, fakeQEMU(t, "", nothing), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a monitor that is taken: %v", err)
	}
}

// A message without an end is given up, whatever it is part of.
func TestEndlessMessages(t *testing.T) {
	for name, begin := range map[string][2]string{
		"greeting":  {`{"QMP": "`, ""},
		"no JSON":   {"", ""},
		"event":     {greeting, `{"event": "X", "data": "`},
		"reply":     {greeting, `{"id": 1, "return": "`},
		"error":     {greeting, `{"id": 1, "error": {"desc": "`},
		"deep":      {greeting, `{"id": 1, "return": ` + strings.Repeat("[", 5000) + `"`},
		"white":     {greeting, strings.Repeat(" ", 100)},
		"long name": {greeting, `{"`},
	} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan int, 1)
			flood := func(conn net.Conn) {
				total, _ := fmt.Fprint(conn, begin[1])
				fill := bytes.Repeat([]byte("x"), 1<<16)
				if name == "white" {
					fill = bytes.Repeat([]byte(" "), 1<<16)
				}
				for {
					n, err := conn.Write(fill)
					if total += n; err != nil || total > 64<<20 {
						sent <- total
						return
					}
				}
			}
			socket := hostileQEMU(t, begin[0], flood)
			if _, err := dialQMP(t.Context(), socket, func(qmpEvent) {}); err == nil || len(err.Error()) > 2*guest.MaxText {
				t.Errorf("an error of %d bytes: %.100v", len(fmt.Sprint(err)), err)
			}
			if total := <-sent; total > 4<<20 { // more than sockets hold
				t.Errorf("%d bytes were read", total)
			}
		})
	}
}

// hostileQEMU greets a client and leaves the connection to talk.
func hostileQEMU(t *testing.T, greeting string, talk func(net.Conn)) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "qmp")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, greeting)
		talk(conn)
	})
	t.Cleanup(func() {
		_ = l.Close()
		done.Wait()
	})
	return socket
}

// Whatever QEMU says, commands end.
func FuzzQMP(f *testing.F) {
	for _, said := range []string{
		greeting + `{"return": {}, "id": 1}` + "\r\n" + `{"return": {"n": 1}, "id": 2}`,
		greeting + `{"event": "SHUTDOWN", "data": {"reason": "guest-reset"}} {"return": {}, "id": 1} {"error": {"desc": "no"}, "id": 2}`,
		greeting + `{"event": "BLOCK_IO_ERROR", "data": 7} {"event": "SHUTDOWN", "data": 7} {"id": 1}`,
		strings.Repeat("\x01", guest.MaxText) + "\n", // four times as long when quoted
		greeting + `{"id": "x"}`, `{"QMP": null}` + "\n", greeting, "\n", "", "{", `[[[[`,
	} {
		f.Add([]byte(said))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, theirs := net.Pipe()
		var peer sync.WaitGroup
		peer.Go(func() { _, _ = io.Copy(io.Discard, theirs) })
		peer.Go(func() {
			_, _ = theirs.Write(said)
			_ = theirs.Close()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		m := newMachine(vmm.Spec{}, vmm.Handle{}, nil, slog.New(slog.DiscardHandler))
		c, err := newQMP(ctx, ours, m.onEvent)
		if err == nil {
			var result struct{ N int }
			err = c.Execute(ctx, "query", nil, &result)
			_ = c.Close()
		}
		if err != nil && len(err.Error()) > 2*guest.MaxText {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		if ctx.Err() != nil {
			t.Error("a command hangs")
		}
		peer.Wait()
	})
}
