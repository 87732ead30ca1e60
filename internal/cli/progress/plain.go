package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"banger/internal/api"
)

// lineInterval is how often a phase says that it is still going on.
const lineInterval = 10 * time.Second

// plain writes a line when a phase starts and ends, and now and then between.
type plain struct {
	w   io.Writer
	now func() time.Time

	mu     sync.Mutex
	last   map[string]time.Time // by phase that is going on: when it wrote a line
	closed bool
}

func newPlain(w io.Writer, now func() time.Time) *plain {
	return &plain{w: w, now: now, last: make(map[string]time.Time)}
}

func (d *plain) Progress(p api.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	last, going := d.last[p.Phase]
	now := d.now()
	switch {
	case p.Finished:
		delete(d.last, p.Phase)
		fmt.Fprintf(d.w, "%s: done in %s\n", title(p), Duration(time.Duration(p.Millis)*time.Millisecond))
	case !going:
		d.last[p.Phase] = now
		fmt.Fprintln(d.w, title(p))
	case now.Sub(last) >= lineInterval:
		d.last[p.Phase] = now
		fmt.Fprintln(d.w, goingOn(p))
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
	defer d.mu.Unlock()
	d.closed = true
}
