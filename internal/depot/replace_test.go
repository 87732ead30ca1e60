package depot

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"banger/internal/api"
)

// made fills a depot with a directory "one" of the content "old".
func made(t *testing.T) (*Depot[string], string) {
	t.Helper()
	d, dir := newDepot(t)
	var builds atomic.Int32
	if _, err := d.Ensure(t.Context(), "one", nil, job("old", opened(), &builds)); err != nil {
		t.Fatal(err)
	}
	return d, dir
}

// checkOnly checks that the depot has "one" with that content and nothing else.
func checkOnly(t *testing.T, d *Depot[string], dir, content string) {
	t.Helper()
	if got, err := d.Get("one"); got != content || err != nil {
		t.Errorf("one is %q, %v, want %q", got, err, content)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("in the depot: %v, %v", entries, err)
	}
}

func (d *Depot[T]) waitingForHold(name string) bool {
	d.mu.Lock()
	r := d.runs[name]
	d.mu.Unlock()
	if r == nil {
		return false
	}
	r.progress.mu.Lock()
	defer r.progress.mu.Unlock()
	return strings.HasPrefix(r.progress.last.Detail, "waiting")
}

func TestReplace(t *testing.T) {
	d, dir := newDepot(t)
	var builds atomic.Int32
	never := func(context.Context) error { t.Error("inUse was asked with nothing there"); return nil }
	if got, err := d.Replace(t.Context(), "one", nil, never, job("first", opened(), &builds)); got != "first" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	asked := 0
	free := func(context.Context) error { asked++; return nil }
	if got, err := d.Replace(t.Context(), "one", nil, free, job("second", opened(), &builds)); got != "second" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if asked != 2 {
		t.Errorf("inUse was asked %d times, want 2", asked)
	}
	checkOnly(t, d, dir, "second")
}

func TestReplaceInUse(t *testing.T) {
	used := errors.New("vm web uses it")
	for before, answers := range map[string][]error{"the work": {used}, "the exchange": {nil, used}} {
		d, dir := made(t)
		var builds atomic.Int32
		inUse := func(context.Context) error {
			answer := answers[0]
			answers = answers[1:]
			return answer
		}
		if _, err := d.Replace(t.Context(), "one", nil, inUse, job("new", opened(), &builds)); !errors.Is(err, used) {
			t.Errorf("refused before %s: got %v", before, err)
		}
		if want := map[string]int32{"the work": 0, "the exchange": 1}[before]; builds.Load() != want {
			t.Errorf("refused before %s: %d builds, want %d", before, builds.Load(), want)
		}
		checkOnly(t, d, dir, "old")
	}
}

func TestFailedReplaceKeepsTheOld(t *testing.T) {
	d, dir := made(t)
	boom := errors.New("boom")
	fail := Job{Build: func(_ context.Context, dir string, _ Report) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "content"), []byte("new"), 0o600), boom)
	}}
	if _, err := d.Replace(t.Context(), "one", nil, nil, fail); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	checkOnly(t, d, dir, "old")
}

func TestOverlap(t *testing.T) {
	d, dir := made(t)
	var builds atomic.Int32
	gate := make(chan struct{})
	keyed := func(key string) Job {
		j := job("new", gate, &builds)
		j.Key = key
		return j
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if got, err := d.Replace(t.Context(), "one", nil, nil, keyed("a")); got != "new" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	eventually(t, "all wait", func() bool { return d.waitersOf("one") == 3 })
	if _, err := d.Replace(t.Context(), "one", nil, nil, keyed("b")); !errors.Is(err, api.ErrConflict) {
		t.Errorf("another key got %v", err)
	}
	if got, err := d.Ensure(t.Context(), "one", nil, keyed("b")); got != "old" || err != nil {
		t.Errorf("Ensure meanwhile got %q, %v", got, err)
	}
	if err := d.Remove(t.Context(), "one", nil); !errors.Is(err, api.ErrConflict) {
		t.Errorf("Remove meanwhile got %v", err)
	}
	close(gate)
	wg.Wait()
	if n := builds.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
	checkOnly(t, d, dir, "new")
}

func TestReplaceJoinsEnsure(t *testing.T) {
	d, dir := newDepot(t)
	var builds atomic.Int32
	gate := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := d.Ensure(t.Context(), "one", nil, job("new", gate, &builds)); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the first waits", func() bool { return d.waitersOf("one") == 1 })
	wg.Go(func() {
		if _, err := d.Replace(t.Context(), "one", nil, nil, job("new", gate, &builds)); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "both wait", func() bool { return d.waitersOf("one") == 2 })
	close(gate)
	wg.Wait()
	if n := builds.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
	checkOnly(t, d, dir, "new")
}

func TestHold(t *testing.T) {
	d, dir := made(t)
	if _, _, err := d.Hold("two"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("hold of what isn't there: %v", err)
	}
	got, release, err := d.Hold("one")
	if got != "old" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	_, other, err := d.Hold("one")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), "one", nil); !errors.Is(err, api.ErrConflict) {
		t.Errorf("Remove while held got %v", err)
	}
	// Its holder may be known: the words about it help more.
	known := errors.New("used by VM web")
	if err := d.Remove(t.Context(), "one", func(context.Context) error { return known }); !errors.Is(err, known) {
		t.Errorf("Remove while held and used got %v", err)
	}
	var builds atomic.Int32
	var used atomic.Bool
	replaced := make(chan error, 1)
	go func() {
		inUse := func(context.Context) error {
			if used.Load() {
				return errors.New("used")
			}
			return nil
		}
		_, err := d.Replace(t.Context(), "one", nil, inUse, job("new", opened(), &builds))
		replaced <- err
	}()
	eventually(t, "the exchange waits", func() bool { return d.waitingForHold("one") })
	release()
	release() // counts once
	if got, err := d.Get("one"); got != "old" || err != nil {
		t.Errorf("replaced while held: %q, %v", got, err)
	}
	// What is held may have come into use: that is what the hold was for.
	used.Store(true)
	other()
	if err := <-replaced; err == nil {
		t.Error("replaced what came into use")
	}
	checkOnly(t, d, dir, "old")
}

func TestCancelWhileHeld(t *testing.T) {
	d, dir := made(t)
	_, release, err := d.Hold("one")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	var builds atomic.Int32
	ctx, cancel := context.WithCancel(t.Context())
	replaced := make(chan error, 1)
	go func() {
		_, err := d.Replace(ctx, "one", nil, nil, job("new", opened(), &builds))
		replaced <- err
	}()
	eventually(t, "the exchange waits", func() bool { return d.waitingForHold("one") })
	cancel()
	if err := <-replaced; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	checkOnly(t, d, dir, "old")
}

func TestRemove(t *testing.T) {
	d, dir := made(t)
	for _, name := range []string{"two", "../x", ""} {
		if err := d.Remove(t.Context(), name, nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Remove(%q): %v", name, err)
		}
	}
	used := errors.New("used")
	if err := d.Remove(t.Context(), "one", func(context.Context) error { return used }); !errors.Is(err, used) {
		t.Errorf("got %v", err)
	}
	checkOnly(t, d, dir, "old")
	if err := d.Remove(t.Context(), "one", func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
	checkEmpty(t, dir)
	if err := os.Mkdir(filepath.Join(dir, "damaged"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), "damaged", nil); err != nil {
		t.Error(err)
	}
	checkEmpty(t, dir)
}

// Remove waits for the end of a cancelled build instead of failing.
func TestRemoveWhileWindingDown(t *testing.T) {
	d, dir := made(t)
	cancelled, release := make(chan struct{}), make(chan struct{})
	slow := Job{Build: func(ctx context.Context, _ string, _ Report) error {
		<-ctx.Done()
		close(cancelled)
		<-release
		return ctx.Err()
	}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := d.Replace(ctx, "one", nil, nil, slow); !errors.Is(err, context.Canceled) {
			t.Errorf("the cancelled call got %v", err)
		}
	})
	eventually(t, "the build runs", func() bool { return d.waitersOf("one") == 1 })
	cancel()
	<-cancelled
	wg.Go(func() {
		if err := d.Remove(t.Context(), "one", nil); err != nil {
			t.Errorf("Remove got %v", err)
		}
	})
	close(release)
	wg.Wait()
	checkEmpty(t, dir)
}

func TestExchange(t *testing.T) {
	for name, swap := range map[string]func(a, b string) error{"one step": exchange, "three steps": exchangeInSteps} {
		dir := t.TempDir()
		a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		for _, sub := range []string{filepath.Join(a, "new"), filepath.Join(b, "old")} {
			if err := os.MkdirAll(sub, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := swap(a, b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, sub := range []string{filepath.Join(a, "old"), filepath.Join(b, "new")} {
			if _, err := os.Stat(sub); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
