package guard

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
)

// captureLog gives slog.Default's lines to the test.
func captureLog(t *testing.T) *bytes.Buffer {
	t.Helper()
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return &log
}

func outOfRange() error {
	var none []int
	_ = none[len(none)]
	return nil
}

func wantPanic(t *testing.T, err error) {
	t.Helper()
	var e *PanicError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a PanicError", err)
	}
	if !strings.Contains(e.Error(), "index out of range") || !bytes.Contains(e.Stack, []byte("outOfRange")) {
		t.Errorf("%v\n%s", e, e.Stack)
	}
}

func TestPanicsBecomeErrors(t *testing.T) {
	captureLog(t)
	wantPanic(t, Run("run", outOfRange))
	wantPanic(t, <-Start("start", outOfRange))

	group, ctx := errgroup.WithContext(t.Context())
	group.Go(ErrFunc("group", outOfRange))
	group.Go(ErrFunc("wait", func() error { <-ctx.Done(); return nil }))
	wantPanic(t, group.Wait())

	var wg sync.WaitGroup
	wg.Go(Func("waitgroup", func() { _ = outOfRange() }))
	wg.Wait()

	done := make(chan struct{})
	Go("go", func() { defer close(done); _ = outOfRange() })
	<-done

	_, err := io.Copy(io.Discard, Reader("read", readFunc(func([]byte) (int, error) { return 0, outOfRange() })))
	wantPanic(t, err)
	_, err = io.Copy(Writer("write", writeFunc(func([]byte) (int, error) { return 0, outOfRange() })), strings.NewReader("x"))
	wantPanic(t, err)
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(p []byte) (int, error) { return f(p) }

func TestOtherwiseNothingChanges(t *testing.T) {
	log := captureLog(t)
	err := errors.New("an error")
	if got := Run("run", func() error { return err }); !errors.Is(got, err) {
		t.Errorf("Run: %v", got)
	}
	if got := <-Start("start", func() error { return err }); !errors.Is(got, err) {
		t.Errorf("Start: %v", got)
	}
	// t.FailNow and the like end a goroutine, and that is no panic.
	if got := <-Start("exit", func() error { runtime.Goexit(); return nil }); got == nil {
		t.Error("Start: nil for a goroutine that was ended")
	}
	data, got := io.ReadAll(Reader("read", strings.NewReader("text")))
	if string(data) != "text" || got != nil {
		t.Errorf("Reader: %q, %v", data, got)
	}
	if n, got := Writer("write", io.Discard).Write([]byte("text")); n != 4 || got != nil {
		t.Errorf("Writer: %d, %v", n, got)
	}
	if log.Len() > 0 {
		t.Errorf("logged:\n%s", log)
	}
}

func TestStackIsLoggedOnce(t *testing.T) {
	log := captureLog(t)
	for range 1000 {
		_ = Run("the work of this test", outOfRange)
	}
	if n := strings.Count(log.String(), "the work of this test"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if !strings.Contains(log.String(), "guard_test.go") {
		t.Errorf("no stack in the log:\n%s", log)
	}
}
