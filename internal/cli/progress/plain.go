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

// quietTime is how long a phase may take without a line: most take
// milliseconds, and a script's log is no place for those.
const quietTime = time.Second

// plain writes a line when a phase has gone on for a while, now and then from
// there on, and when one that took long ends.
type plain struct {
	w   io.Writer
	now func() time.Time

	mu     sync.Mutex
	next   map[string]time.Time // by phase that is going on: when its next line is due
	closed bool
}

func newPlain(w io.Writer, now func() time.Time) *plain {
	return &plain{w: w, now: now, next: make(map[string]time.Time)}
}

func (d *plain) Progress(p api.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	due, going := d.next[p.Phase]
	now := d.now()
	took := time.Duration(p.Millis) * time.Millisecond
	switch {
	case p.Finished:
		delete(d.next, p.Phase)
		if took >= quietTime {
			fmt.Fprintf(d.w, "%s: done in %s\n", title(p), Duration(took))
		}
	case !going:
		d.next[p.Phase] = now.Add(quietTime)
	case !now.Before(due):
		d.next[p.Phase] = now.Add(lineInterval)
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
