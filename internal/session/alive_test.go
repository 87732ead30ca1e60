package session

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"banger/internal/api"
)

// mutable is a connection whose other end can be made silent.
type mutable struct {
	net.Conn
	silent atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func (m *mutable) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	if m.silent.Load() {
		<-m.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (m *mutable) Close() error {
	m.once.Do(func() { close(m.closed) })
	return m.Conn.Close()
}

// runSilenced runs a command on a server that falls silent once the command
// runs, which then calls ready.
func runSilenced(t *testing.T, limit timing, ready func(), signals <-chan os.Signal) (Result, error) {
	t.Helper()
	s := newServer(t)
	var conn *mutable
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return runWith(ctx, Options{
		Access: s.access,
		Dial: func(ctx context.Context) (net.Conn, error) {
			inner, err := s.dial(ctx)
			conn = &mutable{Conn: inner, closed: make(chan struct{})}
			return conn, err
		},
		Command: []string{"sh", "-c", "echo ready; sleep 1000"},
		Stdout: writerFunc(func(p []byte) (int, error) {
			conn.silent.Store(true)
			ready()
			return len(p), nil
		}),
		Signals: from(signals),
	}, limit)
}

// TestSilentGuestIsGivenUp: a guest that shows nothing of itself is not waited
// for without end.
func TestSilentGuestIsGivenUp(t *testing.T) {
	_, err := runSilenced(t, timing{connect: timeout, interval: 20 * time.Millisecond, patience: 3, hurry: timeout}, func() {}, nil)
	var lost *LostError
	if !errors.As(err, &lost) || !strings.Contains(err.Error(), "has not answered for 60ms") {
		t.Errorf("got %v", err)
	}
}

// TestQuietCommandIsNotGivenUp: a command that says nothing is not a guest that
// says nothing.
func TestQuietCommandIsNotGivenUp(t *testing.T) {
	s := newServer(t)
	// The command ends once there have been more questions than may be in vain.
	questions := make(chan struct{}, 64)
	s.request = func(name string) {
		if name == keepAlive {
			questions <- struct{}{}
		}
	}
	stdin, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	go func() {
		for range 10 {
			<-questions
		}
		_ = input.Close()
	}()
	res, err := runWith(t.Context(), Options{Dial: s.dial, Access: s.access, Command: []string{"sh", "-c", "cat; exit 7"}, Stdin: stdin},
		timing{connect: timeout, interval: 200 * time.Millisecond, patience: 5, hurry: timeout})
	if err != nil || res.ExitCode != 7 {
		t.Errorf("got %v, %v", res, err)
	}
}

// TestSignalToASilentGuest: who wants to leave a guest that doesn't answer can.
func TestSignalToASilentGuest(t *testing.T) {
	for name, limit := range map[string]timing{
		"newly silent": {connect: timeout, interval: timeout, patience: 1000, hurry: 20 * time.Millisecond},
		"known":        {connect: timeout, interval: 10 * time.Millisecond, patience: 1 << 30, hurry: timeout},
	} {
		t.Run(name, func(t *testing.T) {
			signals := make(chan os.Signal)
			done := make(chan struct{})
			defer close(done)
			_, err := runSilenced(t, limit, func() {
				go func() {
					for { // the silence takes a moment to be known
						select {
						case signals <- syscall.SIGTERM:
							time.Sleep(10 * time.Millisecond)
						case <-done:
							return
						}
					}
				}()
			}, signals)
			if !errors.Is(err, api.ErrCancelled) || !strings.Contains(err.Error(), "does not answer") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestConnectingHasADeadline, be it that nobody takes the connection or that
// nobody says a word on it.
func TestConnectingHasADeadline(t *testing.T) {
	s := newServer(t)
	for name, dial := range map[string]func(context.Context) (net.Conn, error){
		"dial": func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, api.Errorf(api.CodeTimeout, "something else")
		},
		"login": func(context.Context) (net.Conn, error) {
			here, there := net.Pipe()
			t.Cleanup(func() { _ = there.Close() })
			return here, nil
		},
	} {
		limit := timing{connect: 20 * time.Millisecond, interval: timeout, patience: 1, hurry: timeout}
		_, err := runWith(t.Context(), Options{Dial: dial, Access: s.access, Command: []string{"true"}}, limit)
		if !errors.Is(err, api.ErrTimeout) || !strings.Contains(err.Error(), "the guest does not answer") || api.AsError(err).Hint == "" {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// One that is still starting is waited for.
	slow := func(ctx context.Context) (net.Conn, error) {
		time.Sleep(50 * time.Millisecond)
		return s.dial(ctx)
	}
	limit := timing{connect: time.Millisecond, interval: timeout, patience: 1, hurry: timeout}
	if res, err := runWith(t.Context(), Options{Dial: slow, Access: s.access, Command: []string{"true"}, Booting: true}, limit); err != nil {
		t.Errorf("got %v, %v", res, err)
	}
}
