package workspace

import (
	"fmt"
	"io"
	"sync"
	"time"

	"banger/internal/api"
)

// reportInterval is how often progress is reported.
const reportInterval = 100 * time.Millisecond

// meter reports how much of a workspace has been sent.
type meter struct {
	report  api.ProgressFunc
	title   string
	started time.Time

	mu        sync.Mutex
	done      int64 // bytes
	total     int64 // bytes, as far as known
	files     int
	allFiles  int
	lastEvent time.Time
}

const phase = "workspace"

func newMeter(pf api.ProgressFunc, title string) *meter {
	m := &meter{report: pf, title: title, started: time.Now()}
	m.event(api.Progress{Detail: "reading the repository"})
	return m
}

func (m *meter) event(p api.Progress) {
	p.Phase, p.Title, p.Unit = phase, m.title, "bytes"
	m.report.Report(p)
}

// expect adds to what is to be sent.
func (m *meter) expect(files int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.allFiles += files
	m.total += bytes
}

// add counts bytes that were sent.
func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	m.tick()
}

// file counts a file that was sent.
func (m *meter) file() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files++
	m.tick()
}

// tick reports if it is time to. The caller holds mu.
func (m *meter) tick() {
	now := time.Now()
	if now.Sub(m.lastEvent) < reportInterval {
		return
	}
	m.lastEvent = now
	// Files may have grown since they were counted.
	m.event(api.Progress{Detail: m.detail(), Done: m.done, Total: max(m.total, m.done)})
}

func (m *meter) detail() string { return fmt.Sprintf("%d of %d files", m.files, m.allFiles) }

func (m *meter) finish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.event(api.Progress{
		Detail: m.detail(), Done: m.done, Total: m.done,
		Finished: true, Millis: time.Since(m.started).Milliseconds(),
	})
}

// reader counts what is read from r as sent.
func (m *meter) reader(r io.Reader) io.Reader { return &countingReader{r, m} }

type countingReader struct {
	r     io.Reader
	meter *meter
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.meter.add(int64(n))
	return n, err
}
