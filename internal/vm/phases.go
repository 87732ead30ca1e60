package vm

import (
	"sync"
	"time"

	"banger/internal/api"
)

// phases reports the phases of a create or start as progress and notes how
// long each took.
type phases struct {
	progress api.ProgressFunc
	mu       sync.Mutex
	done     []api.PhaseTiming
}

func newPhases(progress api.ProgressFunc) *phases { return &phases{progress: progress} }

// run does one phase.
func (p *phases) run(name, title string, do func() error) error {
	start := time.Now()
	p.progress.Report(api.Progress{Phase: name, Title: title})
	err := do()
	if err == nil {
		p.note(name, title, time.Since(start))
	}
	return err
}

// note records a phase that was measured elsewhere.
func (p *phases) note(name, title string, took time.Duration) {
	p.mu.Lock()
	p.done = append(p.done, api.PhaseTiming{Phase: name, Millis: took.Milliseconds()})
	p.mu.Unlock()
	p.progress.Report(api.Progress{Phase: name, Title: title, Finished: true, Millis: took.Milliseconds()})
}

func (p *phases) timing() []api.PhaseTiming {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]api.PhaseTiming(nil), p.done...)
}
