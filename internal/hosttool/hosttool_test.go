package hosttool

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
	"banger/internal/room"
)

func shell(script string) Command {
	return Command{
		Tool: Tool{Name: "sh", Package: "dash"},
		Args: []string{"-c", script},
		Log:  slog.New(slog.DiscardHandler),
	}
}

func TestRunLines(t *testing.T) {
	var got []string
	c := shell(`printf 'one\ntw'; printf 'o\n\n10%%\r20%%\r' >&2; printf end`)
	c.OnLine = func(line string) { got = append(got, line) }
	if err := Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"one", "two", "10%", "20%", "end"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRunPanicInOnLine(t *testing.T) {
	c := shell(`echo one`)
	c.OnLine = func(string) { panic("a bug") }
	if err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "a bug") {
		t.Errorf("got %v", err)
	}
}

func TestRunErrors(t *testing.T) {
	for _, tt := range []struct {
		script, want, unwanted string
	}{
		{`echo chatter; echo "E: it broke"; echo more chatter; exit 3`, "E: it broke", "chatter"},
		{`echo a; echo b; echo c; exit 1`, "exit status 1: b; c", "a;"},
		{`exit 4`, "exit status 4", ""},
	} {
		err := Run(t.Context(), shell(tt.script))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.script, err, tt.want)
		} else if tt.unwanted != "" && strings.Contains(err.Error(), tt.unwanted) {
			t.Errorf("%s: got %v, which has %q in it", tt.script, err, tt.unwanted)
		}
	}
}

func TestRunNoSpace(t *testing.T) {
	err := Run(t.Context(), shell(`echo "tar: x: Cannot write: No space left on device"; echo bye; exit 2`))
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC in its chain", err)
	}
	err = room.Explain(err, "/some/dir")
	if !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), "/some/dir is full") {
		t.Errorf("got %v, want an error about a full disk", err)
	}
	other := errors.New("other")
	if got := room.Explain(other, "/some/dir"); got != other {
		t.Errorf("got %v for an unrelated error", got)
	}
}

func TestFindMissing(t *testing.T) {
	_, err := Tool{Name: "no-such-tool-here", Package: "some-package"}.Find()
	if !errors.Is(err, api.ErrHost) {
		t.Fatalf("got %v, want a host error", err)
	}
	if hint := api.AsError(err).Hint; !strings.Contains(hint, "apt-get install some-package") {
		t.Errorf("the hint is %q", hint)
	}
}

// A cancelled run must return and must have killed the program.
func TestRunCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pidFile := filepath.Join(t.TempDir(), "pid")
	started := make(chan struct{})
	c := shell(`echo $$ > "` + pidFile + `"; echo up; exec sleep 1000`)
	c.OnLine = func(string) { close(started) }
	done := make(chan error, 1)
	go func() { done <- Run(ctx, c) }()
	select {
	case <-started:
	case <-time.After(30 * time.Second):
		t.Fatal("the program did not start")
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Run did not return")
	}
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("process %s is still there", pid)
	}
}
