package depot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/guard"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newDepot(t *testing.T) (*Depot[string], string) {
	t.Helper()
	return newDepotAt(filepath.Join(t.TempDir(), "depot"), "content")
}

// newDepotAt returns a depot of directories that hold these files; it loads
// their contents, one after the other.
func newDepotAt(dir string, files ...string) (*Depot[string], string) {
	load := func(dir string) (string, error) {
		var all string
		for _, file := range files {
			data, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return "", err
			}
			all += string(data)
		}
		return all, nil
	}
	return New(dir, load, slog.New(slog.DiscardHandler)), dir
}

// job writes text as the content, after gate was closed.
func job(text string, gate <-chan struct{}, builds *atomic.Int32) Job {
	return Job{Phase: "test", Title: "testing", Build: func(ctx context.Context, dir string, report Report) error {
		builds.Add(1)
		report("half", 50)
		if err := os.WriteFile(filepath.Join(dir, "content"), []byte(text), 0o600); err != nil {
			return err
		}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
}

func opened() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting: %s", what)
		}
	}
}

func (d *Depot[T]) waitersOf(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.runs[name]; r != nil {
		return r.waiters
	}
	return -1
}

func TestEnsureOnce(t *testing.T) {
	d, dir := newDepot(t)
	var builds atomic.Int32
	gate := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := d.Ensure(t.Context(), "one", nil, job("text", gate, &builds))
			if got != "text" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	eventually(t, "all eight wait", func() bool { return d.waitersOf("one") == 8 })
	if _, err := d.Get("one"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unfinished directory is visible: %v", err)
	}
	close(gate)
	wg.Wait()
	if _, err := d.Ensure(t.Context(), "one", nil, job("other", gate, &builds)); err != nil {
		t.Error(err)
	}
	if n := builds.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
	all, err := d.List()
	if diff := cmp.Diff([]string{"text"}, all); diff != "" || err != nil {
		t.Errorf("list: %v %s", err, diff)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("in the depot: %v, %v", entries, err)
	}
}

func TestOneLeavesOthersGoOn(t *testing.T) {
	d, _ := newDepot(t)
	var builds atomic.Int32
	gate := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := make(chan error, 1)
	go func() {
		_, err := d.Ensure(ctx, "one", nil, job("text", gate, &builds))
		first <- err
	}()
	eventually(t, "the first waits", func() bool { return d.waitersOf("one") == 1 })
	second := make(chan error, 1)
	go func() {
		_, err := d.Ensure(t.Context(), "one", nil, job("text", gate, &builds))
		second <- err
	}()
	eventually(t, "both wait", func() bool { return d.waitersOf("one") == 2 })
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first got %v, want context.Canceled", err)
	}
	close(gate)
	if err := <-second; err != nil {
		t.Errorf("the second got %v", err)
	}
	if n := builds.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
}

func TestAllLeave(t *testing.T) {
	d, dir := newDepot(t)
	var builds atomic.Int32
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if _, err := d.Ensure(ctx, "one", nil, job("text", nil, &builds)); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled", err)
			}
		})
	}
	eventually(t, "all wait", func() bool { return d.waitersOf("one") == 3 && builds.Load() == 1 })
	cancel()
	wg.Wait()
	checkEmpty(t, dir)
	if got, err := d.Ensure(t.Context(), "one", nil, job("again", opened(), &builds)); got != "again" || err != nil {
		t.Errorf("after a cancelled build: %q, %v", got, err)
	}
}

// A call that comes while a cancelled build still winds down must not get
// that build's error.
func TestJoinWhileWindingDown(t *testing.T) {
	d, _ := newDepot(t)
	release := make(chan struct{})
	cancelled := make(chan struct{})
	slow := Job{Build: func(ctx context.Context, _ string, _ Report) error {
		<-ctx.Done()
		close(cancelled)
		<-release
		return ctx.Err()
	}}
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan struct{})
	go func() {
		defer close(first)
		if _, err := d.Ensure(ctx, "one", nil, slow); err == nil {
			t.Error("the cancelled call got no error")
		}
	}()
	eventually(t, "the first waits", func() bool { return d.waitersOf("one") == 1 })
	cancel()
	<-cancelled
	var builds atomic.Int32
	second := make(chan error, 1)
	go func() {
		_, err := d.Ensure(t.Context(), "one", nil, job("text", opened(), &builds))
		second <- err
	}()
	close(release)
	<-first
	if err := <-second; err != nil {
		t.Errorf("the second got %v", err)
	}
}

func TestFailedBuild(t *testing.T) {
	d, dir := newDepot(t)
	for _, tt := range []struct {
		err  error
		want error
	}{
		{errors.New("boom"), nil},
		{fmt.Errorf("copy: %w", syscall.ENOSPC), api.ErrHost},
	} {
		_, err := d.Ensure(t.Context(), "one", nil, Job{Build: func(_ context.Context, dir string, _ Report) error {
			if err := os.WriteFile(filepath.Join(dir, "content"), []byte("x"), 0o600); err != nil {
				return err
			}
			return tt.err
		}})
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("got %v for %v", err, tt.err)
		}
		checkEmpty(t, dir)
	}
}

func TestDamagedIsReplaced(t *testing.T) {
	d, dir := newDepot(t)
	if err := os.MkdirAll(filepath.Join(dir, "one", "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	all, err := d.List()
	if len(all) != 0 || err != nil {
		t.Errorf("list: %v, %v", all, err)
	}
	var builds atomic.Int32
	if got, err := d.Ensure(t.Context(), "one", nil, job("text", opened(), &builds)); got != "text" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("in the depot: %v, %v", entries, err)
	}
}

func TestClean(t *testing.T) {
	d, dir := newDepot(t)
	if err := d.Clean(t.Context()); err != nil {
		t.Errorf("clean without a directory: %v", err)
	}
	var builds atomic.Int32
	if _, err := d.Ensure(t.Context(), "keep", nil, job("text", opened(), &builds)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, tempPrefix+"gone-123", "tree", "etc"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "keep" {
		t.Errorf("in the depot: %v, %v", entries, err)
	}
}

func TestProgress(t *testing.T) {
	d, _ := newDepot(t)
	var mu sync.Mutex
	var got []api.Progress
	pf := func(p api.Progress) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, p)
	}
	_, err := d.Ensure(t.Context(), "one", pf, Job{Phase: "p", Title: "t", Build: func(ctx context.Context, dir string, report Report) error {
		// The subscription comes after the start, so wait for its event.
		eventually(t, "the first event", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got) > 0
		})
		report("forth", 70)
		report("back", 20)
		return os.WriteFile(filepath.Join(dir, "content"), nil, 0o600)
	}})
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, p := range got {
		if p.Phase != "p" || p.Title != "t" {
			t.Errorf("event %+v", p)
		}
		step := fmt.Sprintf("%s %d/%d %v", p.Detail, p.Done, p.Total, p.Finished)
		if len(steps) == 0 || steps[len(steps)-1] != step { // heartbeats repeat
			steps = append(steps, step)
		}
	}
	want := []string{" 0/100 false", "forth 70/100 false", "back 70/100 false", "writing to disk 99/100 false", " 100/100 true"}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Error(diff)
	}
}

func TestBadNames(t *testing.T) {
	d, _ := newDepot(t)
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".tmp-x", strings.Repeat("x", 64)} {
		if _, err := d.Get(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get(%q): %v", name, err)
		}
		if _, err := d.Ensure(t.Context(), name, nil, Job{}); err == nil {
			t.Errorf("Ensure(%q) succeeded", name)
		}
	}
}

func TestBuildThatPanics(t *testing.T) {
	d, dir := newDepot(t)
	var wg sync.WaitGroup
	for range 3 { // those that wait for it get its error as well
		wg.Go(func() {
			_, err := d.Ensure(t.Context(), "a", nil, Job{Build: func(_ context.Context, dir string, _ Report) error {
				if err := os.WriteFile(filepath.Join(dir, "content"), nil, 0o600); err != nil {
					return err
				}
				panic("a bug")
			}})
			var e *guard.PanicError
			if !errors.As(err, &e) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	checkEmpty(t, dir)
	if got, err := d.Ensure(t.Context(), "a", nil, job("text", opened(), new(atomic.Int32))); got != "text" || err != nil {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}
