// Package guard keeps a panic in one piece of work from ending the process.
//
// bangerd reads what guests, repositories, images and servers send, on many
// goroutines. A bug there that a hostile byte finds must cost that piece of
// work and not every VM's control: so no goroutine of bangerd is started
// without this package (TestGoroutinesAreGuarded), and code of ours that a
// library calls from a goroutine of its own is wrapped by Reader or Writer.
//
// A panic is logged with its stack to slog.Default, which is where the
// runtime would have printed it. What a guest can cause it can cause often, so
// that each kind of work is logged once a minute at most.
//
// Deferred calls run as in any panic. What isn't deferred isn't done: work that
// somebody waits for has to tell its end in a deferred call, or by its error.
package guard

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// logInterval is the least time between two stacks of the same work.
const logInterval = time.Minute

// PanicError is a panic that became an error.
type PanicError struct {
	Work  string // what panicked, e.g. "read a layer"
	Value any    // what panic was called with
	Stack []byte // of the goroutine, as debug.Stack has it
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("banger hit a bug: %s: %v", e.Work, e.Value)
}

// Run calls f. A panic of f is returned as a *PanicError. work says what f does
// and is a constant: it is what the log's limit goes by.
func Run(work string, f func() error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		value := recover()
		if value == nil { // runtime.Goexit goes on whatever is done here
			return
		}
		e := &PanicError{Work: work, Value: value, Stack: debug.Stack()}
		logged.report(e)
		err = e
	}()
	err = f()
	returned = true
	return err
}

// Go runs f on a goroutine of its own. Nobody is told of a panic but the log.
func Go(work string, f func()) { go Func(work, f)() }

// Start runs f on a goroutine of its own. The channel gets f's error, which is a
// *PanicError if f panicked; it needs no receiver.
func Start(work string, f func() error) <-chan error {
	ended := make(chan error, 1)
	go func() {
		err := errors.New("the goroutine was ended") // by runtime.Goexit
		defer func() { ended <- err }()
		err = Run(work, f)
	}()
	return ended
}

// Func is f for sync.WaitGroup.Go. Nobody is told of a panic but the log.
func Func(work string, f func()) func() {
	return func() {
		_ = Run(work, func() error { // it is logged
			f()
			return nil
		})
	}
}

// ErrFunc is f for errgroup.Group.Go.
func ErrFunc(work string, f func() error) func() error {
	return func() error { return Run(work, f) }
}

// Reader returns r with its panics as errors.
func Reader(work string, r io.Reader) io.Reader { return &reader{work, r} }

type reader struct {
	work string
	r    io.Reader
}

func (g *reader) Read(p []byte) (n int, err error) {
	err = Run(g.work, func() error {
		n, err = g.r.Read(p)
		return err
	})
	return n, err
}

// Writer returns w with its panics as errors.
func Writer(work string, w io.Writer) io.Writer { return &writer{work, w} }

type writer struct {
	work string
	w    io.Writer
}

func (g *writer) Write(p []byte) (n int, err error) {
	err = Run(g.work, func() error {
		n, err = g.w.Write(p)
		return err
	})
	return n, err
}

// logged is the log of the process, as there is one standard error.
var logged reporter

// reporter logs panics, but not the same one over and over.
type reporter struct {
	mu   sync.Mutex
	last map[string]time.Time // by PanicError.Work
}

func (r *reporter) report(e *PanicError) {
	r.mu.Lock()
	now := time.Now()
	last, seen := r.last[e.Work]
	quiet := seen && now.Sub(last) < logInterval
	if !quiet {
		if r.last == nil {
			r.last = make(map[string]time.Time)
		}
		r.last[e.Work] = now
	}
	r.mu.Unlock()
	if !quiet {
		slog.Error("a bug: please report it with this stack", "work", e.Work, "panic", e.Value, "stack", string(e.Stack))
	}
}
