package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"banger/internal/api"
	"banger/internal/client"
	"banger/internal/daemon"
	"banger/internal/daemon/daemontest"
	"banger/internal/paths"
)

// fakeMode is the variable that makes this test binary a bangerd.
const fakeMode = "BANGER_TEST_FAKE_DAEMON"

func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeMode); mode != "" {
		os.Exit(fakeDaemon(mode))
	}
	goleak.VerifyTestMain(m,
		// Waits for a bangerd that goes on after the test of its start.
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"))
}

// fakeDaemon behaves like a bangerd, of a kind.
func fakeDaemon(mode string) int {
	fmt.Println("time=now level=INFO msg=starting")
	switch mode {
	case "refuses":
		fmt.Fprintln(os.Stderr, "bangerd: open database: it is of a newer version\n  hint: install the newest banger")
		return 1
	case "panics":
		panic("index out of range")
	case "exits":
		return 3
	}
	layout, err := paths.FromEnv()
	if err == nil {
		err = serve(layout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bangerd:", err)
		return 1
	}
	return 0
}

func serve(layout paths.Layout) error {
	// Every start leaves a line, so that a test can count them.
	f, err := os.OpenFile(filepath.Join(layout.State, "starts"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	fmt.Fprintln(f, os.Getpid())
	f.Close()
	l, release, err := daemon.Listen(layout)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	srv := daemon.New(daemon.Config{
		Version: testVersion,
		Log:     slog.New(slog.DiscardHandler),
		VMs:     &daemontest.VMs{Dir: layout.State},
		Hosts:   daemontest.Hosts{},
	})
	return errors.Join(srv.Serve(ctx, l), release())
}

// autoStart returns a client that starts this binary as a bangerd of a mode.
func autoStart(t *testing.T, mode string) (context.Context, *client.Client, paths.Layout) {
	t.Helper()
	layout := newLayout(t)
	t.Setenv(fakeMode, mode)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	c := client.New(client.Config{Layout: layout, Version: testVersion, Executable: self})
	t.Cleanup(func() {
		defer cancel()
		if _, err := c.Stop(context.Background()); err != nil {
			t.Errorf("stop the daemon: %v", err)
		}
		c.Close()
	})
	return ctx, c, layout
}

func starts(t *testing.T, layout paths.Layout) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(layout.State, "starts"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(data))
}

func TestParallelCallsStartOneDaemon(t *testing.T) {
	ctx, c, layout := autoStart(t, "serve")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			// A client each, like separate processes; the lock is per open file.
			each := client.New(client.Config{Layout: layout, Version: testVersion, Executable: must(os.Executable())})
			defer each.Close()
			if _, err := client.Call(ctx, each, api.ListVMs, api.None{}); err != nil {
				t.Errorf("list: %v", err)
			}
		})
	}
	wg.Wait()
	if got := starts(t, layout); len(got) != 1 {
		t.Errorf("%d daemons were started, want 1", len(got))
	}
	info, err := os.Stat(layout.Socket())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode = %v, %v; want 0600", info.Mode(), err)
	}
	if v, err := client.Call(ctx, c, api.GetVersion, api.None{}); err != nil || v.PID == os.Getpid() {
		t.Errorf("version = %+v, %v; want another process", v, err)
	}
}

func must(s string, err error) string {
	if err != nil {
		panic(err)
	}
	return s
}

func TestKilledDaemonIsReplaced(t *testing.T) {
	ctx, c, layout := autoStart(t, "serve")
	first, err := client.Call(ctx, c, api.GetVersion, api.None{})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// The connection may be kept alive until the kernel has closed it.
	var second api.Version
	waitFor(t, "another daemon", func() bool {
		second, err = client.Call(ctx, c, api.GetVersion, api.None{})
		return err == nil && second.PID != first.PID
	})
	if got := starts(t, layout); len(got) != 2 || got[1] != strconv.Itoa(second.PID) {
		t.Errorf("starts = %v, want a second one, pid %d", got, second.PID)
	}
	if session, err := syscall.Getpgid(second.PID); err != nil || session != second.PID {
		t.Errorf("process group = %d, %v; want its own, %d", session, err, second.PID)
	}
}

func TestStaleSocket(t *testing.T) {
	ctx, c, layout := autoStart(t, "serve")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: layout.Socket()}); err != nil {
		t.Fatal(err)
	}
	syscall.Close(fd)
	if _, err := c.DialGuest(ctx, "web", 22); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("dial = %v, want an answer of a daemon", err)
	}
}

func TestFailedStartsAreExplained(t *testing.T) {
	tests := []struct {
		mode, msg, hint string
	}{
		{"refuses", "bangerd did not start: open database: it is of a newer version", "install the newest banger"},
		{"panics", "bangerd did not start: panic: index out of range", "bangerd.log"},
		{"exits", "bangerd did not start: time=now level=INFO msg=starting", "bangerd.log"},
	}
	for _, tt := range tests {
		t.Run(tt.mode, func(t *testing.T) {
			ctx, c, layout := autoStart(t, tt.mode)
			old := "bangerd: an old message\n"
			if err := os.WriteFile(layout.DaemonLog(), []byte(old), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := client.Call(ctx, c, api.ListVMs, api.None{})
			wantCode(t, err, api.CodeDaemon, tt.msg)
			if e := api.AsError(err); !strings.Contains(e.Hint, tt.hint) {
				t.Errorf("hint = %q, want %q in it", e.Hint, tt.hint)
			}
		})
	}
}

func TestNoDaemonToStart(t *testing.T) {
	layout := newLayout(t)
	t.Setenv("PATH", t.TempDir())
	c := client.New(client.Config{Layout: layout, Version: testVersion})
	_, err := client.Call(context.Background(), c, api.ListVMs, api.None{})
	wantCode(t, err, api.CodeDaemon, "neither beside banger nor on PATH")
}

func TestLargeLogIsPutAside(t *testing.T) {
	ctx, c, layout := autoStart(t, "serve")
	if err := os.WriteFile(layout.DaemonLog(), make([]byte, 4<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	old, err := os.Stat(layout.DaemonLog() + ".1")
	if err != nil || old.Size() != 4<<20+1 {
		t.Errorf("the old log = %v, %v", old, err)
	}
	now, err := os.Stat(layout.DaemonLog())
	if err != nil || now.Size() > 1000 {
		t.Errorf("the new log = %v, %v", now, err)
	}
}

func TestSecondListenerIsRefused(t *testing.T) {
	layout := newLayout(t)
	l, release, err := daemon.Listen(layout)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = daemon.Listen(layout)
	wantCode(t, err, api.CodeConflict, "another bangerd")
	if err := errors.Join(l.Close(), release()); err != nil {
		t.Fatal(err)
	}
	l, release, err = daemon.Listen(layout)
	if err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	if err := errors.Join(l.Close(), release()); err != nil {
		t.Fatal(err)
	}
}
