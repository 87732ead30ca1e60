package cli

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/creack/pty"

	"banger/internal/api"
	"banger/internal/daemon"
	"banger/internal/daemon/daemontest"
	"banger/internal/paths"
)

// consoleText is what a guest may write: what an init system does, and an
// attack on the terminal of whoever reads it.
const consoleText = "[\x1b[0;32m  OK  \x1b[0m] Started ssh.\r\n" + daemontest.HostileText + "\n"

// TestLogsOnTerminal: there, vm logs shows what a guest has written instead of
// letting it control the terminal; --raw and pipes get the bytes.
func TestLogsOnTerminal(t *testing.T) {
	serveConsole(t, consoleText)
	shown := "[\x1b[0;32m  OK  \x1b[0m] Started ssh.\n" +
		`h\x1b[2J\x1b]52;c;cm0=\x07\u009b2J\u0085\x7f\u202e\u2066\u200b\U000e0041` + "\nbanger: forged\tend\n\x1b[0m"
	for _, tt := range []struct {
		args     string
		terminal bool
		want     string
	}{
		{"vm logs web", true, shown},
		{"vm logs --raw web", true, consoleText},
		{"vm logs web", false, consoleText},
	} {
		if tt.terminal { // whose line discipline does this
			tt.want = strings.ReplaceAll(tt.want, "\n", "\r\n")
		}
		if got := logsOutput(t, tt.terminal, strings.Fields(tt.args)); got != tt.want {
			t.Errorf("%s, terminal %v: got %q, want %q", tt.args, tt.terminal, got, tt.want)
		}
	}
}

// logsOutput runs a command and returns what a terminal or a pipe gets.
func logsOutput(t *testing.T, terminal bool, args []string) string {
	t.Helper()
	var r, w *os.File
	var err error
	if terminal {
		r, w, err = pty.Open()
	} else {
		r, w, err = os.Pipe()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make(chan string, 1)
	go func() {
		data, _ := io.ReadAll(r) // a pty's end is an error
		got <- string(data)
	}()
	ctx, signals := watchSignals(t.Context())
	defer signals.close()
	var stderr bytes.Buffer
	e := newEnv(nil, w, &stderr, signals)
	e.version = "v1.0.0"
	if status := run(ctx, e, args); status != 0 {
		t.Errorf("%v: status %d: %s", args, status, stderr.String())
	}
	w.Close()
	text := <-got
	return text
}

// serveConsole starts a bangerd with a VM web that has written text.
func serveConsole(t *testing.T, text string) {
	t.Helper()
	layout, serve := listenAt(t)
	services := daemontest.NewServices(layout.State)
	vm, err := services.VMs.Create(t.Context(), api.CreateVM{Name: "web"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	log, err := services.VMs.ConsoleLog(t.Context(), vm.ID)
	if err == nil {
		err = os.WriteFile(log, []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	serve(daemon.New(daemon.Config{
		Version: "v1.0.0", Log: slog.New(slog.DiscardHandler), Hosts: daemontest.Hosts{},
		VMs: services.VMs, Images: services.Images, Kernels: services.Kernels, Usage: services.Usage,
	}))
}

// listenAt gives bangerd a directory of its own for the test; serve starts it.
func listenAt(t *testing.T) (layout paths.Layout, serve func(*daemon.Server)) {
	t.Helper()
	home, err := os.MkdirTemp("", "b") // sockets' paths are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	t.Setenv("BANGER_HOME", home)
	if layout, err = paths.FromEnv(); err != nil {
		t.Fatal(err)
	}
	if err := layout.Create(); err != nil {
		t.Fatal(err)
	}
	l, release, err := daemon.Listen(layout)
	if err != nil {
		t.Fatal(err)
	}
	return layout, func(srv *daemon.Server) {
		ctx, stop := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- srv.Serve(ctx, l) }()
		t.Cleanup(func() {
			stop()
			if err := <-served; err != nil {
				t.Error(err)
			}
			if err := release(); err != nil {
				t.Error(err)
			}
		})
	}
}
