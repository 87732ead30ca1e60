package session

import (
	"fmt"
	"os"
	"sync"
	"time"

	"banger/internal/api"
	"banger/internal/guard"
)

// timing is how long the guest may be silent.
type timing struct {
	// connect bounds everything up to a connection that is logged in.
	connect time.Duration
	// interval is the time between two questions whether the guest is there, and
	// patience how many of them in a row may see nothing of it. They are counted,
	// not timed: a host that was asleep, or a client that was stopped, has heard
	// nothing either.
	interval time.Duration
	patience int
	// hurry is how long the guest may be silent after a signal.
	hurry time.Duration
}

// defaultTiming gives up after two minutes; docs/cli.md says so. A guest that is
// emulated on a busy host may well be silent for half of that.
var defaultTiming = timing{connect: 2 * time.Minute, interval: 15 * time.Second, patience: 8, hurry: 5 * time.Second}

// keepAlive is what OpenSSH asks, too. Any answer will do; servers refuse it.
const keepAlive = "keepalive@openssh.com"

// watcher sees whether the guest is there, and ends the session if it isn't.
type watcher struct {
	run  *run
	ask  chan struct{} // a question is due
	done chan struct{}

	mu      sync.Mutex
	silent  int   // questions in a row that saw nothing of the guest
	verdict error // why the session was ended
}

// watch begins to watch the connection until stop is called.
func (r *run) watch() *watcher {
	w := &watcher{run: r, ask: make(chan struct{}, 1), done: make(chan struct{})}
	guard.Go("ask whether a guest is there", w.askOn)
	guard.Go("count how long a guest is silent", w.count)
	return w
}

func (w *watcher) stop() { close(w.done) }

// askOn sends the questions, one after the other: a guest that doesn't read
// would block it.
func (w *watcher) askOn() {
	for {
		select {
		case <-w.ask:
			if _, _, err := w.run.client.SendRequest(keepAlive, true, nil); err != nil {
				return // the session is about to notice
			}
		case <-w.done:
			return
		}
	}
}

// question has one sent, unless one is under way.
func (w *watcher) question() {
	select {
	case w.ask <- struct{}{}:
	default:
	}
}

// count asks at each interval and gives up after too many in vain.
func (w *watcher) count() {
	limit := w.run.timing
	ticks := time.NewTicker(limit.interval)
	defer ticks.Stop()
	asked := false
	for heard := w.run.link.heard.Load(); ; {
		select {
		case <-ticks.C:
		case <-w.done:
			return
		}
		now := w.run.link.heard.Load()
		w.mu.Lock()
		if w.silent++; now != heard || !asked {
			w.silent = 0
		}
		silent := w.silent
		w.mu.Unlock()
		if silent >= limit.patience {
			w.giveUp(&LostError{Cause: fmt.Errorf("the guest has not answered for %v", limit.interval*time.Duration(silent))})
			return
		}
		heard, asked = now, true
		w.question()
	}
}

// hurry is called after a signal: the session of a guest that doesn't answer
// ends, at once if that is known already.
func (w *watcher) hurry(sig os.Signal) {
	w.mu.Lock()
	known := w.silent > 0
	w.mu.Unlock()
	if !known {
		heard := w.run.link.heard.Load()
		w.question()
		select {
		case <-time.After(w.run.timing.hurry):
		case <-w.done:
			return
		}
		if w.run.link.heard.Load() != heard {
			return
		}
	}
	w.giveUp(api.Errorf(api.CodeCancelled, "cancelled by signal: %v; the guest does not answer, and may not have got it", sig))
}

// giveUp ends the session for a reason.
func (w *watcher) giveUp(reason error) {
	w.mu.Lock()
	if w.verdict == nil {
		w.verdict = reason
	}
	w.mu.Unlock()
	_ = w.run.client.Close()
}

// given is why the session was ended, nil if it wasn't.
func (w *watcher) given() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.verdict
}
