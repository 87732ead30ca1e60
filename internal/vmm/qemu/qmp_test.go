package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
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
