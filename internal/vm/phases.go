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
		took := time.Since(start)
		p.note(name, took)
		p.progress.Report(api.Progress{Phase: name, Title: title, Finished: true, Millis: took.Milliseconds()})
	}
	return err
}

// measure does a phase that reports its own progress, if there is any.
func (p *phases) measure(name string, do func() error) error {
	start := time.Now()
	err := do()
	if err == nil {
		p.note(name, time.Since(start))
	}
	return err
}

func (p *phases) note(name string, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = append(p.done, api.PhaseTiming{Phase: name, Millis: took.Milliseconds()})
}

func (p *phases) timing() []api.PhaseTiming {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]api.PhaseTiming(nil), p.done...)
}
