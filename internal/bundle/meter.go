package bundle

import (
	"os"
	"time"

	"banger/internal/api"
)

// reportEvery is the least time between two reports of progress.
const reportEvery = 200 * time.Millisecond

// meter tells how much of the files has been written.
type meter struct {
	pf       api.ProgressFunc
	progress api.Progress
	start    time.Time
	last     time.Time // of the last report
}

func newMeter(files []File, name string, pf api.ProgressFunc) (*meter, error) {
	m := &meter{pf: pf, start: time.Now(), progress: api.Progress{Phase: "bundle-write", Title: "writing " + name, Unit: "bytes"}}
	for _, f := range files {
		info, err := os.Stat(f.Path)
		if err != nil {
			return nil, err
		}
		m.progress.Total += info.Size()
	}
	pf.Report(m.progress)
	return m, nil
}

// file says which file is next.
func (m *meter) file(name string) { m.progress.Detail = name }

// add counts bytes.
func (m *meter) add(n int) {
	m.progress.Done += int64(n)
	if time.Since(m.last) < reportEvery {
		return
	}
	m.last = time.Now()
	m.pf.Report(m.progress)
}

func (m *meter) finish() {
	m.progress.Detail = ""
	m.progress.Finished = true
	m.progress.Millis = time.Since(m.start).Milliseconds()
	m.pf.Report(m.progress)
}
