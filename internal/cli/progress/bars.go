package progress

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"banger/internal/api"
)

const (
	barWidth     = 30
	refreshEvery = 120 * time.Millisecond
)

// bars draws a line per phase: a bar where the total is known, else a spinner.
// A finished phase's line stays, except a layer's: all layers together have a
// line of their own.
type bars struct {
	container *mpb.Progress
	now       func() time.Time

	mu     sync.Mutex
	phases map[string]*phase // going on
	layers layers
	closed bool
}

func newBars(w io.Writer, now func() time.Time) *bars {
	return &bars{
		container: mpb.New(mpb.WithOutput(w), mpb.WithRefreshRate(refreshEvery), mpb.ForceTTY(), mpb.WithAutoRefresh()),
		now:       now,
		phases:    make(map[string]*phase),
	}
}

func (d *bars) Progress(p api.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
	case p.Notice != "":
		fmt.Fprintln(d.container, p.Notice) // above the bars
	case isLayer(p):
		d.update(d.layers.add(p, d.now())) // stands above the single layers
		d.update(p, mpb.BarRemoveOnComplete())
	default:
		if _, going := d.phases[p.Phase]; p.Finished || !going {
			d.endLayers() // what goes on beside them says nothing of their end
		}
		d.update(p)
	}
}

func (d *bars) endLayers() {
	if p, ended := d.layers.end(); ended {
		d.update(p)
	}
}

// update shows the progress of one phase. The options are for its line, if it
// has none yet.
func (d *bars) update(p api.Progress, options ...mpb.BarOption) {
	ph, ok := d.phases[p.Phase]
	if !ok {
		ph = &phase{started: d.now(), now: d.now, newest: p}
		if err := ph.add(d.container, options...); err != nil {
			return // the terminal is gone
		}
		d.phases[p.Phase] = ph
	}
	ph.update(p)
	if p.Finished {
		delete(d.phases, p.Phase)
	}
}

func (d *bars) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.endLayers()
	d.closed = true
	for _, ph := range d.phases {
		ph.bar.Abort(true)
	}
	d.container.Wait()
}

// phase is one line.
type phase struct {
	bar     *mpb.Bar
	started time.Time
	now     func() time.Time

	mu     sync.Mutex // the line is drawn by the container's goroutine
	newest api.Progress
}

// add puts the phase's line on the screen.
func (ph *phase) add(c *mpb.Progress, options ...mpb.BarOption) (err error) {
	spinner := decor.OnComplete(decor.Spinner(nil, decor.WCSyncWidth), "✓ ")
	style := mpb.BarStyle().Build()
	filler := mpb.BarFillerFunc(func(w io.Writer, stat decor.Statistics) error {
		if stat.Completed || ph.state().Total <= 0 {
			return nil
		}
		return style.Fill(w, stat)
	})
	ph.bar, err = c.Add(0, filler, append(options,
		mpb.BarWidth(barWidth),
		mpb.PrependDecorators(spinner, decor.Any(func(decor.Statistics) string { return " " + title(ph.state()) + " " })),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return ph.trailer() })),
	)...)
	return err
}

func (ph *phase) state() api.Progress {
	ph.mu.Lock()
	defer ph.mu.Unlock()
	return ph.newest
}

func (ph *phase) update(p api.Progress) {
	ph.mu.Lock()
	ph.newest = p
	ph.mu.Unlock()
	if p.Finished {
		ph.bar.SetTotal(max(p.Total, p.Done, 1), true)
		return
	}
	if p.Total > 0 {
		ph.bar.SetTotal(p.Total, false)
		// A bar that reaches its total would end before its phase does.
		ph.bar.SetCurrent(min(p.Done, p.Total-1))
	}
}

// trailer is what stands behind the title and the bar.
func (ph *phase) trailer() string {
	p := ph.state()
	if p.Finished {
		return Duration(time.Duration(p.Millis) * time.Millisecond)
	}
	text := ph.now().Sub(ph.started).Round(time.Second).String()
	if a := amount(p); a != "" {
		text = a + "  " + text
	}
	if p.Detail != "" {
		text += "  " + p.Detail
	}
	return text
}
