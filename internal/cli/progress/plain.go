package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"banger/internal/api"
)

const (
	// quietTime is how long a phase may take without a line: most take
	// milliseconds, and a script's log is no place for those.
	quietTime = time.Second
	// lineInterval is how often a phase that makes progress says so.
	lineInterval = 10 * time.Second
	// silentInterval is how often a phase that doesn't says that it goes on:
	// who watches a log may take a minute of silence for the end.
	silentInterval = 30 * time.Second
)

// plain writes a line when a phase has gone on for a while, now and then from
// there on, and when one that took long ends. Layers are one phase together.
type plain struct {
	w    io.Writer
	now  func() time.Time
	quit chan struct{}
	wg   sync.WaitGroup

	mu     sync.Mutex
	going  []*going // in the order of their beginnings
	layers layers
	closed bool
}

// going is a phase that goes on.
type going struct {
	newest api.Progress
	begun  time.Time
	line   time.Time // when the last was written; zero if none was
}

func newPlain(w io.Writer, now func() time.Time) *plain {
	return &plain{w: w, now: now, quit: make(chan struct{})}
}

// watch makes phases without news say that they go on, until Close.
func (d *plain) watch() {
	d.wg.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				d.tick()
			case <-d.quit:
				return
			}
		}
	})
}

func (d *plain) Progress(p api.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
	case p.Notice != "":
		fmt.Fprintln(d.w, p.Notice)
	case isLayer(p):
		d.update(d.layers.add(p, d.now()))
	default:
		if p.Finished || d.find(p.Phase) < 0 {
			d.endLayers() // what goes on beside them says nothing of their end
		}
		d.update(p)
	}
}

func (d *plain) endLayers() {
	if p, ended := d.layers.end(); ended {
		d.update(p)
	}
}

func (d *plain) update(p api.Progress) {
	now := d.now()
	took := time.Duration(p.Millis) * time.Millisecond
	i := d.find(p.Phase)
	switch {
	case p.Finished:
		if i >= 0 {
			d.going = append(d.going[:i], d.going[i+1:]...)
		}
		if took >= quietTime {
			fmt.Fprintf(d.w, "%s: done in %s\n", title(p), Duration(took))
		}
	case i < 0:
		d.going = append(d.going, &going{newest: p, begun: now})
	default:
		g := d.going[i]
		g.newest = p
		d.writeIf(g, now, quietTime, lineInterval)
	}
}

func (d *plain) find(phase string) int {
	for i, g := range d.going {
		if g.newest.Phase == phase {
			return i
		}
	}
	return -1
}

// tick writes a line for each phase that was silent for long.
func (d *plain) tick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.going {
		d.writeIf(g, d.now(), lineInterval, silentInterval)
	}
}

// writeIf writes a line if the phase has gone on for that long without one:
// first since its beginning, later since its last.
func (d *plain) writeIf(g *going, now time.Time, first, later time.Duration) {
	due := g.line.Add(later)
	if g.line.IsZero() {
		due = g.begun.Add(first)
	}
	if !now.Before(due) {
		g.line = now
		fmt.Fprintln(d.w, goingOn(g.newest))
	}
}

// goingOn describes a phase between its start and its end.
func goingOn(p api.Progress) string {
	parts := []string{}
	for _, s := range []string{amount(p), p.Detail} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if len(parts) == 0 {
		return title(p) + ": still going on"
	}
	return title(p) + ": " + strings.Join(parts, ", ")
}

func (d *plain) Close() {
	d.mu.Lock()
	if !d.closed {
		d.endLayers()
		d.closed = true
		close(d.quit)
	}
	d.going = nil
	d.mu.Unlock()
	d.wg.Wait()
}
