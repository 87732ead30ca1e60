package qemu

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"banger/internal/vmm"
)

// TestGoesOnWithSpace: a guest that was stopped for want of space, as QEMU tells
// a bangerd that adopts it, goes on, as often as it takes.
func TestGoesOnWithSpace(t *testing.T) {
	const stopped = `{"event":"BLOCK_IO_ERROR","data":{"device":"","nospace":true,"operation":"write","action":"stop","reason":"No space left on device"}} {"event":"STOP"}` + "\n"
	var mu sync.Mutex
	conts := 0
	socket := fakeQEMU(t, greeting, func(conn net.Conn, id uint64, command string) {
		switch command {
		case "query-status":
			fmt.Fprintf(conn, `{"return":{"running":false,"status":"io-error"},"id":%d}`+"\n", id)
			return
		case "cont":
			mu.Lock()
			conts++
			first := conts == 1
			mu.Unlock()
			fmt.Fprintln(conn, `{"event":"RESUME"}`)
			if first {
				fmt.Fprint(conn, stopped)
			}
		}
		ok(conn, id)
	})
	drive := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(drive, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	process, err := vmm.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(vmm.Spec{Drives: []vmm.Drive{{Path: "/dev/null/nowhere", ReadOnly: true}, {Path: drive}}}, vmm.Handle{}, process, slog.New(slog.DiscardHandler))
	m.qmp = dialTest(t, socket, m.onEvent)
	m.Task("let a guest go on", m.keepGoing)
	t.Cleanup(func() { _ = m.Close() })
	deadline := time.Now().Add(time.Minute)
	for {
		mu.Lock()
		n := conts
		mu.Unlock()
		if why, _ := m.Held(); n >= 2 && why == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it was told to go on %d times", n)
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.onEvent(qmpEvent{Name: "BLOCK_IO_ERROR", Data: []byte(`{"action":"report","nospace":false}`)})
	if why, _ := m.Held(); why != "" {
		t.Errorf("after an error that the guest is told of: %q", why)
	}
}
