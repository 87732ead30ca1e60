package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"banger/internal/api"
)

// patience is how many interrupts a command in a guest may ignore: the next one
// ends banger's side of it.
const patience = 2

// signals decides what a signal to banger means: it cancels the context of the
// work, or, while a command runs in a guest, is passed on to that command.
type signals struct {
	cancel context.CancelCauseFunc
	in     chan os.Signal
	done   chan struct{}

	mu         sync.Mutex
	forward    chan os.Signal // nil: signals cancel
	interrupts int            // that were forwarded
}

// watchSignals returns a context that a signal cancels.
func watchSignals(ctx context.Context) (context.Context, *signals) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &signals{cancel: cancel, in: make(chan os.Signal, 8), done: make(chan struct{})}
	// SIGPIPE is among them so that a closed stdout is a write error, and not
	// the end of the program before it has deleted its --rm VM. It is not
	// ignored, since programs that banger starts would inherit that.
	signal.Notify(s.in, syscall.SIGTERM, syscall.SIGPIPE)
	// nohup and shells' background jobs start programs with these ignored.
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(s.in, sig)
		}
	}
	go s.watch()
	return ctx, s
}

func (s *signals) close() {
	signal.Stop(s.in)
	close(s.done)
	s.cancel(nil)
}

func (s *signals) watch() {
	for {
		select {
		case sig := <-s.in:
			if sig != syscall.SIGPIPE {
				s.handle(sig)
			}
		case <-s.done:
			return
		}
	}
}

func (s *signals) handle(sig os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forward == nil {
		s.cancel(api.Errorf(api.CodeCancelled, "cancelled by signal: %v", sig))
		return
	}
	if sig == syscall.SIGINT || sig == syscall.SIGTERM {
		s.interrupts++
	}
	if s.interrupts > patience {
		s.cancel(api.Errorf(api.CodeCancelled, "gave up the command, which has not ended after %d signals", patience))
		return
	}
	select {
	case s.forward <- sig:
	default: // the guest doesn't take them; the next ones end it here
	}
}

// forwarded returns a channel that receives the signals to pass on, until stop
// is called. SIGQUIT and the user signals are among them, which are not
// handled otherwise.
func (s *signals) forwarded() (ch <-chan os.Signal, stop func()) {
	forward := make(chan os.Signal, 8)
	s.mu.Lock()
	s.forward, s.interrupts = forward, 0
	s.mu.Unlock()
	more := []os.Signal{syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}
	signal.Notify(s.in, more...)
	return forward, func() {
		signal.Reset(more...)
		s.mu.Lock()
		s.forward = nil
		s.mu.Unlock()
	}
}
