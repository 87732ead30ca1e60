package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"banger/internal/cli/termtext"
	"banger/internal/client"
	"banger/internal/daemon"
	"banger/internal/daemon/daemontest"
	"banger/internal/paths"
	"banger/internal/session"
)

const (
	// versionVariable is the version that the scripts' banger and bangerd have.
	versionVariable = "TEST_VERSION"
	patienceInTests = 60 * time.Second
)

// TestMain makes the test binary the commands of the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"banger":  func() { os.Exit(scriptBanger()) },
		"bangerd": func() { os.Exit(scriptDaemon()) },
	})
}

func testVersion() string { return cmp.Or(os.Getenv(versionVariable), "v1.0.0") }

// scriptBanger is banger with the real client, whose sessions are commands on
// this host.
func scriptBanger() int {
	ctx, s := watchSignals(context.Background())
	defer s.close()
	e := newEnv(os.Stdin, guarded{os.Stdout}, guarded{os.Stderr}, s)
	e.version = testVersion()
	e.runSession = localSession
	return run(ctx, e, os.Args[1:])
}

// guarded is output that ends the program if a terminal would obey it: no
// script has a reason for that.
type guarded struct{ io.Writer }

func (g guarded) Write(p []byte) (int, error) {
	for _, r := range string(p) {
		if termtext.Unsafe(r) && r != '\n' && r != '\t' {
			panic(fmt.Sprintf("%q in the output %q", r, p))
		}
	}
	return g.Writer.Write(p)
}

// localSession runs a session's command here, once the guest answers. The
// command sees in its environment what a guest would have done with.
func localSession(ctx context.Context, o session.Options) (session.Result, error) {
	conn, err := o.Dial(ctx)
	if err != nil {
		return session.Result{}, err
	}
	defer conn.Close()
	argv := o.Command
	if argv == nil {
		argv = []string{"sh", "-s"}
	}
	if argv[0] == "lose-connection" {
		return session.Result{}, &session.LostError{Cause: errors.New("connection reset")}
	}
	if argv[0] == "never-connects" {
		fmt.Fprintln(o.Stderr, "connecting")
		<-ctx.Done()
		return session.Result{}, context.Cause(ctx)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = o.Stdin, o.Stdout, o.Stderr
	cmd.Env = append(os.Environ(), "SESSION_DIR="+o.Dir, "SESSION_USER="+cmp.Or(o.User, o.Access.User),
		"SESSION_TTY="+strconv.FormatBool(o.TTY), "SESSION_KEY="+o.Access.KeyPath)
	for k, v := range o.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // gets signals from banger only
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// Who sees the command's first output sends the next signal to it.
	var signals <-chan os.Signal
	if o.Signals != nil {
		var stop func()
		signals, stop = o.Signals()
		defer stop()
	}
	if err := cmd.Start(); err != nil {
		return session.Result{ExitCode: 127}, nil
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case sig := <-signals:
				_ = cmd.Process.Signal(sig)
			case <-done:
				return
			}
		}
	}()
	err = cmd.Wait()
	if ctx.Err() != nil {
		return session.Result{}, fmt.Errorf("run a command in the guest: %w", context.Cause(ctx))
	}
	if state := cmd.ProcessState.Sys().(syscall.WaitStatus); state.Signaled() {
		return session.Result{ExitCode: 128 + int(state.Signal())}, nil
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return session.Result{}, err
	}
	return session.Result{ExitCode: cmd.ProcessState.ExitCode()}, nil
}

// scriptDaemon is bangerd with VMs, images and kernels in memory.
func scriptDaemon() int {
	if msg := os.Getenv("TEST_DAEMON_REFUSES"); msg != "" {
		fmt.Fprintf(os.Stderr, "bangerd: %s\n  hint: mend it\n", msg)
		return 1
	}
	layout, err := paths.FromEnv()
	if err == nil {
		err = serveVMs(layout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bangerd:", err)
		return 1
	}
	return 0
}

func serveVMs(layout paths.Layout) error {
	l, release, err := daemon.Listen(layout)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	services := daemontest.NewServices(layout.State)
	services.Images.Layers = 3
	services.VMs.Guest = func(conn net.Conn, port uint32) {
		fmt.Fprintf(conn, "port %d\n", port)
		daemontest.Echo(conn, port)
	}
	srv := daemon.New(daemon.Config{
		Version: testVersion(),
		Log:     slog.New(slog.NewTextHandler(os.Stderr, nil)),
		VMs:     services.VMs,
		Images:  services.Images,
		Kernels: services.Kernels,
		Usage:   services.Usage,
		Hosts:   daemontest.Hosts{},
	})
	return errors.Join(srv.Serve(ctx, l), release())
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, ".b")
			env.Setenv("BANGER_HOME", home)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // or each command takes a second longer
			self, err := exec.LookPath("banger")      // for scripts that change PATH
			if err != nil {
				return err
			}
			env.Setenv("BANGER", self)
			layout := paths.Layout{State: filepath.Join(home, "state"), Runtime: filepath.Join(home, "run")}
			env.Defer(func() {
				c := client.New(client.Config{Layout: layout, Version: "test"})
				defer c.Close()
				if _, err := c.Stop(context.Background()); err != nil {
					t.Errorf("stop the script's daemon: %v", err)
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":       scriptExits,
			"interrupted": scriptInterrupted,
		},
	})
}

// scriptExits is "exits STATUS COMMAND...": like exec, with the exit status.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND [ARG...]")
	}
	var exit *exec.ExitError
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}

// scriptInterrupted is "interrupted STATUS SIGNALS TEXT COMMAND...": it runs a
// command, and whenever its output has one more TEXT, sends it the next of the
// signals (numbers, with commas between); its output goes to the file out.
func scriptInterrupted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: interrupted STATUS SIGNALS TEXT COMMAND [ARG...]")
	}
	out := ts.MkAbs("out")
	f, err := os.Create(out)
	ts.Check(err)
	defer f.Close()
	path, err := exec.LookPath(args[3])
	ts.Check(err)
	cmd := exec.Command(path, args[4:]...)
	cmd.Env = append(os.Environ(), "BANGER_HOME="+ts.Getenv("BANGER_HOME"), "GORACE="+ts.Getenv("GORACE"))
	cmd.Dir = ts.MkAbs(".")
	cmd.Stdout, cmd.Stderr = f, f
	stdin, err := cmd.StdinPipe() // nothing comes from it, not even its end
	ts.Check(err)
	defer stdin.Close()
	ts.Check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for i, number := range strings.Split(args[1], ",") {
		n, err := strconv.Atoi(number)
		ts.Check(err)
		for deadline := time.Now().Add(patienceInTests); ; time.Sleep(5 * time.Millisecond) {
			data, err := os.ReadFile(out)
			ts.Check(err)
			if bytes.Count(data, []byte(args[2])) > i {
				break
			}
			if time.Now().After(deadline) {
				_ = cmd.Process.Kill()
				ts.Fatalf("%q was not written %d times, but:\n%s", args[2], i+1, data)
			}
		}
		ts.Check(cmd.Process.Signal(syscall.Signal(n)))
	}
	select {
	case <-ended:
	case <-time.After(patienceInTests):
		_ = cmd.Process.Kill()
		ts.Fatalf("it did not end")
	}
	if got := cmd.ProcessState.ExitCode(); strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, want %s; output:\n%s", got, args[0], ts.ReadFile(out))
	}
}
