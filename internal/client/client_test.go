package client_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/client"
	"banger/internal/daemon"
	"banger/internal/daemon/daemontest"
	"banger/internal/lockedbuffer"
	"banger/internal/paths"
)

const (
	testVersion = "v1.0.0"
	patience    = 30 * time.Second
)

// newLayout returns a layout in a directory with a short path, as sockets need.
func newLayout(t *testing.T) paths.Layout {
	t.Helper()
	dir, err := os.MkdirTemp("", "bgr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("BANGER_HOME", dir)
	layout, err := paths.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	if err := layout.Create(); err != nil {
		t.Fatal(err)
	}
	return layout
}

// testDaemon is a real server with fake services, in this process.
type testDaemon struct {
	layout paths.Layout
	vms    *daemontest.VMs
	images *daemontest.Images
	log    *lockedbuffer.Buffer
	served chan error
	stop   context.CancelFunc
}

func startDaemon(t *testing.T, layout paths.Layout) *testDaemon {
	t.Helper()
	services := daemontest.NewServices(t.TempDir())
	d := &testDaemon{
		layout: layout,
		vms:    services.VMs,
		images: services.Images,
		log:    new(lockedbuffer.Buffer),
		served: make(chan error, 1),
	}
	l, release, err := daemon.Listen(layout)
	if err != nil {
		t.Fatal(err)
	}
	srv := daemon.New(daemon.Config{
		Version: testVersion,
		Log:     slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		VMs:     services.VMs,
		Images:  services.Images,
		Kernels: services.Kernels,
		Usage:   services.Usage,
		Hosts:   daemontest.Hosts{},
	})
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := srv.Serve(ctx, l)
		d.served <- errors.Join(err, release())
	}()
	t.Cleanup(func() { stop(); <-done })
	return d
}

func (d *testDaemon) client(t *testing.T, version string) *client.Client {
	c := client.New(client.Config{Layout: d.layout, Version: version})
	t.Cleanup(c.Close)
	return c
}

// start returns a client of a new daemon and a context without auto-start.
func start(t *testing.T) (context.Context, *client.Client, *testDaemon) {
	t.Helper()
	d := startDaemon(t, newLayout(t))
	ctx, cancel := context.WithTimeout(client.WithoutStart(context.Background()), patience)
	t.Cleanup(cancel)
	return ctx, d.client(t, testVersion), d
}

// wantCode fails the test unless err is an *api.Error of that code whose
// message contains msg.
func wantCode(t *testing.T, err error, code api.Code, msg string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Msg, msg) {
		t.Fatalf("got error %v, want code %s and a message with %q", err, code, msg)
	}
}

func create(ctx context.Context, c *client.Client, name string, progress api.ProgressFunc) (api.VM, error) {
	return client.Stream(ctx, c, api.CreateVMRoute, api.CreateVM{Name: name}, progress)
}

func TestCalls(t *testing.T) {
	ctx, c, _ := start(t)
	vms, err := client.Call(ctx, c, api.ListVMs, api.None{})
	if err != nil || vms == nil || len(vms) != 0 {
		t.Fatalf("list = %v, %v; want an empty list", vms, err)
	}
	var progress []api.Progress
	vm, err := create(ctx, c, "web", func(p api.Progress) { progress = append(progress, p) })
	if err != nil || vm.Name != "web" || vm.State != api.StateRunning {
		t.Fatalf("create = %+v, %v", vm, err)
	}
	if len(progress) == 0 || !progress[len(progress)-1].Finished {
		t.Errorf("progress = %+v, want it to end with a finished phase", progress)
	}
	if got, err := client.Call(ctx, c, api.GetVM, api.None{}, vm.ID); err != nil || got.Name != "web" {
		t.Errorf("get by id = %+v, %v", got, err)
	}
	_, err = client.Call(ctx, c, api.DeleteVMRoute, api.DeleteVM{}, "web")
	wantCode(t, err, api.CodeConflict, "running")
	if _, err = client.Call(ctx, c, api.DeleteVMRoute, api.DeleteVM{Force: true}, "web"); err != nil {
		t.Error(err)
	}
	host, err := client.Call(ctx, c, api.GetHost, api.None{})
	if err != nil || host.Driver != "qemu" {
		t.Errorf("host = %+v, %v", host, err)
	}
}

func TestErrors(t *testing.T) {
	ctx, c, _ := start(t)
	_, err := client.Call(ctx, c, api.GetVM, api.None{}, "nope")
	wantCode(t, err, api.CodeNotFound, `no VM "nope"`)
	if e := api.AsError(err); e.Hint == "" {
		t.Error("the hint got lost")
	}
	// Names with characters that mean something in URLs arrive as they are.
	for _, name := range []string{"a/b", "a?b", "a%2Fb", "a b", "ü", "a#b"} {
		_, err := client.Call(ctx, c, api.GetVM, api.None{}, name)
		wantCode(t, err, api.CodeNotFound, "no VM")
	}
	for _, name := range []string{"", ".", ".."} {
		_, err := client.Call(ctx, c, api.GetVM, api.None{}, name)
		wantCode(t, err, api.CodeInvalid, "not a name")
	}
	_, err = create(ctx, c, daemontest.NameFails, nil)
	wantCode(t, err, api.CodeHost, "create vm: the disk is full")
	_, err = create(ctx, c, daemontest.NameTimesOut, nil)
	wantCode(t, err, api.CodeTimeout, "not ready")
	if e := api.AsError(err); e.VM != daemontest.NameTimesOut {
		t.Errorf("the error names VM %q, want %q", e.VM, daemontest.NameTimesOut)
	}
	_, err = create(ctx, c, daemontest.NameTimesOut, nil)
	wantCode(t, err, api.CodeExists, "exists")
	unknown := api.Route[api.None, api.None]{Method: "GET", Path: "/v1/nothing"}
	_, err = client.Call(ctx, c, unknown, api.None{})
	wantCode(t, err, api.CodeNotFound, "no call")
}

func TestPanicCostsOneCall(t *testing.T) {
	ctx, c, d := start(t)
	_, err := create(ctx, c, daemontest.NamePanics, nil)
	wantCode(t, err, api.CodeInternal, "a bug in create")
	if !strings.Contains(d.log.String(), "daemontest.(*VMs).Create") {
		t.Error("the log has no stack trace")
	}
	if _, err := client.Call(ctx, c, api.ListVMs, api.None{}); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}

func TestCancelReachesTheService(t *testing.T) {
	ctx, c, d := start(t)
	ctx, cancel := context.WithCancel(ctx)
	_, err := create(ctx, c, daemontest.NameHangs, func(api.Progress) { cancel() })
	wantCode(t, err, api.CodeCancelled, "cancelled")
	waitFor(t, "the create to be cancelled", func() bool { return d.vms.Cancelled() == 1 })
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestVersionMismatch(t *testing.T) {
	ctx, _, d := start(t)
	c := d.client(t, "v2.0.0")
	_, err := client.Call(ctx, c, api.ListVMs, api.None{})
	wantCode(t, err, api.CodeVersion, "banger is version v2.0.0, but the running bangerd is version v1.0.0")
	if e := api.AsError(err); !strings.Contains(e.Hint, "banger daemon restart") {
		t.Errorf("hint %q doesn't say what to do", e.Hint)
	}
	_, err = c.DialGuest(ctx, "web", 22)
	wantCode(t, err, api.CodeVersion, "v2.0.0")
	v, err := client.Call(ctx, c, api.GetVersion, api.None{})
	if err != nil || v.Version != "v1.0.0" || v.PID != os.Getpid() {
		t.Errorf("version = %+v, %v", v, err)
	}
	if was, err := c.Stop(ctx); !was || err != nil {
		t.Errorf("stop = %v, %v", was, err)
	}
}

// A bangerd from before version checks answers without a word of its version.
func TestServerThatChecksNoVersion(t *testing.T) {
	layout := newLayout(t)
	l, err := net.Listen("unix", layout.Socket())
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "[]")
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	c := client.New(client.Config{Layout: layout, Version: testVersion})
	_, err = client.Call(context.Background(), c, api.ListVMs, api.None{})
	wantCode(t, err, api.CodeVersion, "version unknown")
}

func TestShutdownAnswersStreams(t *testing.T) {
	ctx, c, d := start(t)
	started := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		_, err := create(ctx, c, daemontest.NameHangs, func(api.Progress) { close(started) })
		failed <- err
	}()
	<-started
	if was, err := d.client(t, testVersion).Stop(ctx); !was || err != nil {
		t.Fatalf("stop = %v, %v", was, err)
	}
	wantCode(t, <-failed, api.CodeDaemon, "shutting down")
	if err := <-d.served; err != nil {
		t.Errorf("serve = %v", err)
	}
	if _, err := os.Stat(d.layout.Socket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if was, err := c.Stop(ctx); was || err != nil {
		t.Errorf("second stop = %v, %v", was, err)
	}
	_, err := client.Call(ctx, c, api.ListVMs, api.None{})
	wantCode(t, err, api.CodeDaemon, "not running")
}

func TestLogs(t *testing.T) {
	ctx, c, d := start(t)
	if _, err := create(ctx, c, "web", nil); err != nil {
		t.Fatal(err)
	}
	_, err := c.Logs(ctx, "nope", false)
	wantCode(t, err, api.CodeNotFound, "nope")
	r, err := c.Logs(ctx, "web", false)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	r.Close()
	if err != nil || string(data) != "console of web\n" {
		t.Fatalf("log = %q, %v", data, err)
	}

	ctx, cancel := context.WithCancel(ctx)
	r, err = c.Logs(ctx, "web", true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	path, err := d.vms.ConsoleLog(ctx, "web")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, r, "console of web\n")
	appendTo(t, path, "more\n")
	expect(t, r, "more\n")
	// A driver that bounds the log starts the file again.
	if err := os.WriteFile(path, []byte("anew\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, r, "anew\n")
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, path, "replaced\n")
	expect(t, r, "replaced\n")
	cancel()
	_, err = r.Read(make([]byte, 1))
	wantCode(t, err, api.CodeCancelled, "")
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}
