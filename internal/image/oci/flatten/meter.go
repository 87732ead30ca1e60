package flatten

import (
	"io"
	"sync"
	"time"

	"banger/internal/api"
)

// meter turns bytes into progress events of one phase. It is safe for
// concurrent use.
type meter struct {
	report api.ProgressFunc
	start  time.Time

	mu   sync.Mutex
	now  api.Progress
	last time.Time
}

func newMeter(report api.ProgressFunc, phase, title string, total int64) *meter {
	m := &meter{
		report: report,
		start:  time.Now(),
		now:    api.Progress{Phase: phase, Title: title, Total: total, Unit: "bytes"},
	}
	report.Report(m.now)
	return m
}

func (m *meter) add(n int64) {
	if m.report == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Done += n
	if now := time.Now(); now.Sub(m.last) >= reportEvery {
		m.last = now
		m.report.Report(m.now)
	}
}

// finish ends the phase, whether it went well or not.
func (m *meter) finish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Finished = true
	m.now.Millis = time.Since(m.start).Milliseconds()
	m.report.Report(m.now)
}

// meteredReader counts what is read through it.
type meteredReader struct {
	r io.Reader
	m *meter
}

func (r *meteredReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.m.add(int64(n))
	return n, err
}
