package vmm

import (
	"context"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestEndIsToldAfterPanics: whatever a guest has written, and whatever goes wrong
// with what its VMM leaves, its end is told.
func TestEndIsToldAfterPanics(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	process, err := FindProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	life := NewLife("the VMM", Spec{Name: "web"}, Handle{PID: cmd.Process.Pid}, process, slog.New(slog.DiscardHandler))
	life.Watch(func(End) string { panic("odd console") }, func(context.Context) error { panic("odd files") })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	select {
	case <-life.Done():
	case <-time.After(time.Minute):
		t.Fatal("the end isn't told")
	}
	if !strings.Contains(life.ExitReason(), "find out why the VMM ended") {
		t.Errorf("the reason is %q", life.ExitReason())
	}
	if err := life.LetGo(func() error { return nil }); err != nil {
		t.Error(err)
	}
}
