package depot

import (
	"sync"
	"time"

	"banger/internal/api"
	"banger/internal/guard"
)

// heartbeat is the longest time without a progress event, so that a client
// can tell slow work from a lost connection.
const heartbeat = 2 * time.Second

// progress hands the progress of one build to all that wait for it.
type progress struct {
	mu   sync.Mutex
	last api.Progress
	subs map[*api.ProgressFunc]struct{}
}

func newProgress(phase, title string) *progress {
	return &progress{
		last: api.Progress{Phase: phase, Title: title, Total: 100, Unit: "percent"},
		subs: make(map[*api.ProgressFunc]struct{}),
	}
}

// subscribe sends pf the present state and all that follows, until the
// returned function is called; pf isn't called any more once that returns.
func (p *progress) subscribe(pf api.ProgressFunc) (unsubscribe func()) {
	if pf == nil {
		return func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := &pf
	p.subs[key] = struct{}{}
	pf(p.last)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.subs, key)
	}
}

// report is the build's Report.
func (p *progress) report(detail string, percent int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last.Detail = detail
	p.last.Done = max(p.last.Done, min(int64(percent), p.last.Total))
	p.send()
}

// start repeats the last event while nothing else is sent, until the returned
// function is called.
func (p *progress) start() (stop func()) {
	ticker := time.NewTicker(heartbeat)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(guard.Func("repeat a progress event", func() {
		for {
			select {
			case <-ticker.C:
				p.resend()
			case <-quit:
				return
			}
		}
	}))
	return func() {
		ticker.Stop()
		close(quit)
		wg.Wait()
	}
}

func (p *progress) resend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.send()
}

// finish ends the phase.
func (p *progress) finish(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last.Detail = ""
	p.last.Done = p.last.Total
	p.last.Finished = true
	p.last.Millis = took.Milliseconds()
	p.send()
}

// send must be called with mu held.
func (p *progress) send() {
	for pf := range p.subs {
		(*pf)(p.last)
	}
}
