package daemonlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func open(t *testing.T) (path string, f *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "log")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return path, f
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A log is bounded while it is written, and its last records are there, in
// order.
func TestLogIsBoundedWhileItIsWritten(t *testing.T) {
	path, f := open(t)
	log := slog.New(slog.NewTextHandler(Writer(f, path), nil))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 5000 {
				log.Info(strings.Repeat("x", 1000))
			}
		})
	}
	all.Wait()
	const last = 5000
	for i := range last {
		log.Info("last", "n", i)
	}
	if _, err := fmt.Fprintln(f, "panic: the runtime's last words"); err != nil {
		t.Fatal(err)
	}
	now, before := read(t, path), read(t, Previous(path))
	if len(now) > MaxSize+100 || len(before) > MaxSize {
		t.Errorf("the logs have %d and %d bytes", len(now), len(before))
	}
	if !strings.HasSuffix(now, "panic: the runtime's last words\n") {
		t.Error("the descriptor has still the old file")
	}
	records := strings.Split(before+now, "\n")
	records = records[len(records)-2-last : len(records)-2]
	for i, record := range records {
		if !strings.HasSuffix(record, fmt.Sprintf("msg=last n=%d", i)) {
			t.Fatalf("record %d is %q", i, record)
		}
	}
}

func TestLongRecordIsCut(t *testing.T) {
	path, f := open(t)
	w := Writer(f, path)
	if n, err := w.Write(bytes.Repeat([]byte("x"), 10<<20)); n != 10<<20 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if said := read(t, path); len(said) != maxRecord || !strings.HasSuffix(said, cutMark) {
		t.Errorf("%d bytes that end in %q", len(said), said[max(0, len(said)-10):])
	}
}

// Whatever isn't the log is written to as it is.
func TestOtherStandardErrors(t *testing.T) {
	path, _ := open(t)
	other, f := open(t)
	w := Writer(f, path)
	for range 2 {
		if _, err := w.Write(make([]byte, MaxSize)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(read(t, other)); n != 2*MaxSize {
		t.Errorf("%d bytes", n)
	}
}

// Where a log can't be put aside it is emptied.
func TestLogThatCannotBePutAside(t *testing.T) {
	path, f := open(t)
	if err := errors.Join(os.Mkdir(Previous(path), 0o700), os.WriteFile(filepath.Join(Previous(path), "x"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	w := Writer(f, path)
	for range 1000 {
		if _, err := w.Write(make([]byte, maxRecord)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(read(t, path)); n > MaxSize || n == 0 {
		t.Errorf("%d bytes", n)
	}
}

// TestTwoProcessesShareALog: bangerd and the keeper of its namespaces write to
// one log. Whoever puts it aside, the lines of both are in the new one.
func TestTwoProcessesShareALog(t *testing.T) {
	path, f := open(t)
	fd, err := unix.Dup(int(f.Fd())) // as the keeper inherits it
	if err != nil {
		t.Fatal(err)
	}
	inherited := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { inherited.Close() })
	first, second := Writer(f, path), Writer(inherited, path)
	write := func(w io.Writer, line string) {
		t.Helper()
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat("x", 8<<10)
	for turn, pair := range [][2]io.Writer{{first, second}, {second, first}} {
		write(pair[1], fmt.Sprint("before ", turn))
		for range MaxSize / len(long) {
			write(pair[0], long)
		}
		write(pair[0], fmt.Sprint("one ", turn))
		write(pair[1], fmt.Sprint("other ", turn))
		for _, want := range []string{fmt.Sprint("one ", turn), fmt.Sprint("other ", turn)} {
			if !strings.Contains(read(t, path), want+"\n") {
				t.Errorf("%q isn't in the log", want)
			}
		}
		if !strings.Contains(read(t, Previous(path)), fmt.Sprint("before ", turn)) {
			t.Errorf("turn %d: what was before isn't in the log that was put aside", turn)
		}
	}

	// Both at once lose no log: each record that comes after a whole log of others
	// is in one of the two files.
	var all sync.WaitGroup
	for _, w := range []io.Writer{first, second} {
		all.Go(func() {
			for range MaxSize / len(long) {
				if _, err := io.WriteString(w, long+"\n"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got := len(read(t, path)) + len(read(t, Previous(path))); got < MaxSize {
		t.Errorf("of two logs %d bytes are left", got)
	}
}
