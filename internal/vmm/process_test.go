package vmm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"banger/internal/procid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// idle starts a process that ends when the returned function is called; the
// process then stays a zombie.
func idle(t *testing.T) (pid int, end func()) {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() { _ = in.Close() }
	t.Cleanup(func() {
		end()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid, end
}

func await(t *testing.T, p *Process) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatal("the end of the process isn't noticed")
	}
}

func open(t *testing.T, pid int) *Process {
	t.Helper()
	start, err := procid.StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	p, err := OpenProcess(pid, start)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestOpenProcessNoticesTheEnd(t *testing.T) {
	pid, end := idle(t)
	p := open(t, pid)
	select {
	case <-p.Done():
		t.Fatal("a running process counts as ended")
	default:
	}
	if err := p.Signal(0); err != nil {
		t.Errorf("signal a running process: %v", err)
	}
	end()
	await(t, p) // it is a zombie now
	if _, err := procid.StartTime(pid); !errors.Is(err, ErrGone) {
		t.Errorf("a zombie's start time: %v", err)
	}
	if _, err := OpenProcess(pid, p.StartTime()); !errors.Is(err, ErrGone) {
		t.Errorf("open a zombie: %v", err)
	}
	if err := p.Kill(t.Context()); err != nil {
		t.Errorf("kill a zombie: %v", err)
	}
}

func TestOpenProcessRefusesAnother(t *testing.T) {
	pid, _ := idle(t)
	start, err := procid.StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pid   int
		start uint64
	}{{pid, start + 1}, {1<<22 + 1, start}, {0, start}, {-pid, start}} {
		if _, err := OpenProcess(c.pid, c.start); !errors.Is(err, ErrGone) {
			t.Errorf("open %+v: %v", c, err)
		}
	}
}

func TestCloseLeavesTheProcess(t *testing.T) {
	pid, _ := idle(t)
	start, err := procid.StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	p, err := OpenProcess(pid, start)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(unix.SIGKILL); err == nil {
		t.Error("a closed process can be signalled")
	}
	if now, err := procid.StartTime(pid); err != nil || now != start {
		t.Errorf("the process is gone: %v", err)
	}
}

func spawn(t *testing.T, script string) (*Process, string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	p, err := Spawn(Command{Path: "/bin/sh", Args: []string{"-c", script}, Dir: dir, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.KillAnyway(t.Context()); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, log
}

// A VMM whose guest prints without end while no bangerd is there doesn't fill
// the disk.
func TestSpawnBoundsFiles(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	const limit = 1 << 20
	p, err := Spawn(Command{Path: "/bin/sh", Args: []string{"-c", "while [ $(ulimit -f) = unlimited ]; do sleep 0.01; done; exec cat /dev/zero"}, Dir: dir, Log: log, MaxFile: limit})
	if err != nil {
		t.Fatal(err)
	}
	await(t, p)
	if state := p.ExitState(); state.Success() {
		t.Errorf("exit state: %v", state)
	}
	if info, err := os.Stat(log); err != nil || info.Size() > limit {
		t.Errorf("the log: %d bytes, %v", info.Size(), err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestLargestFile(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 1<<40); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		drive Drive
		want  int64
	}{{Drive{Path: disk}, 1 << 40}, {Drive{Path: disk, ReadOnly: true}, 1 << 30}, {Drive{Path: disk + ".gone"}, 1 << 30}} {
		if got := LargestFile(Spec{MemoryMiB: 1 << 10, Drives: []Drive{c.drive}}); got != c.want {
			t.Errorf("%+v: %d, want %d", c.drive, got, c.want)
		}
	}
}

func TestSpawnTellsHowItEnded(t *testing.T) {
	p, log := spawn(t, "pwd; echo oops >&2; exit 3")
	await(t, p)
	if state := p.ExitState(); state.ExitCode() != 3 {
		t.Errorf("exit state: %v", state)
	}
	if said := ReadTail(log, 100); !strings.HasSuffix(said, "oops\n") || !strings.HasPrefix(said, filepath.Dir(log)) {
		t.Errorf("log: %q", said)
	}

	p, _ = spawn(t, "exec sleep 600")
	if p.ExitState() != nil {
		t.Error("a running child has an exit state")
	}
	if err := p.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status := p.ExitState().Sys().(syscall.WaitStatus); status.Signal() != unix.SIGKILL {
		t.Errorf("wait status: %v", status)
	}
}

func TestSpawnIsDetached(t *testing.T) {
	// A descriptor as one may be inherited from a shell.
	leak, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	t.Setenv("TOKEN", "secret")
	p, log := spawn(t, `ls /proc/self/fd | sort -n; env; cut -d' ' -f6 /proc/$$/stat; echo $$; readlink /proc/self/fd/0`)
	await(t, p)
	said := ReadTail(log, 1000)
	pid := fmt.Sprint(p.PID())
	if !strings.Contains(said, "\n"+pid+"\n"+pid+"\n/dev/null\n") {
		t.Errorf("the child's session isn't its own, or it has an input:\n%s", said)
	}
	// 3 is ls's own, for the directory.
	if !strings.HasPrefix(said, "0\n1\n2\n3\n") || strings.HasPrefix(said, "0\n1\n2\n3\n4\n") {
		t.Errorf("the child has other descriptors than 0, 1 and 2:\n%s", said)
	}
	if strings.Contains(said, "TOKEN") {
		t.Error("the child has the user's environment")
	}
}

func TestSpawnFails(t *testing.T) {
	dir := t.TempDir()
	if _, err := Spawn(Command{Path: "/no/such/program", Dir: dir, Log: filepath.Join(dir, "log")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestBoundLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := BoundLog(path); err != nil {
		t.Errorf("missing log: %v", err)
	}
	writer, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	write := func(s string) {
		if _, err := writer.WriteString(s); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Repeat("a", logMax))
	if err := BoundLog(path); err != nil {
		t.Fatal(err)
	}
	if n := len(ReadTail(path, 2*logMax)); n != logMax {
		t.Errorf("a log of the largest size was cut to %d bytes", n)
	}
	write("the end")
	if err := BoundLog(path); err != nil {
		t.Fatal(err)
	}
	write("and on")
	if got := ReadTail(path, logMax); got != "and on" {
		t.Errorf("after the cut the log is %.20q", got)
	}
	kept := ReadTail(PreviousLog(path), 2*logMax)
	if len(kept) != logKeep || !strings.HasSuffix(kept, "aathe end") {
		t.Errorf("%d bytes were kept, ending in %q", len(kept), kept[max(0, len(kept)-10):])
	}
}

func TestKeepLogsBoundedGoesOnAfterErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	if err := os.WriteFile(path, make([]byte, logMax+1), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer close(done)
		KeepLogsBounded(ctx, slog.New(slog.DiscardHandler), dir, path) // a directory can't be cut
	}()
	for deadline := time.Now().Add(patience); ReadTail(path, 1) != ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the log isn't cut")
		}
	}
	cancel()
	<-done
}
