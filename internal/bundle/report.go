package bundle

import (
	"fmt"
	"time"
)

// Shares of the whole: a download takes longer than the unpacking, and the
// caller still has to flush what was written.
const (
	downloadShare = 80 // percent, of a bundle from a URL
	unpackShare   = 98 // percent at which all is unpacked
)

// newDownloadReport turns the progress of a download into that of the whole.
func newDownloadReport(report func(string, int)) func(done, total int64) {
	var last time.Time
	return func(done, total int64) {
		if time.Since(last) < reportEvery && done != total {
			return
		}
		last = time.Now()
		if total == 0 {
			report(fmt.Sprintf("downloading, %d MiB so far", done>>20), 0)
			return
		}
		report(fmt.Sprintf("downloading, %d of %d MiB", done>>20, total>>20), int(done*downloadShare/total))
	}
}

// extractReport turns how much of the bundle was read into progress.
type extractReport struct {
	report func(string, int)
	from   int   // percent
	size   int64 // of the bundle
	done   int64
	detail string
	last   time.Time
}

func newExtractReport(report func(string, int), from int, size int64) *extractReport {
	return &extractReport{report: report, from: from, size: max(size, 1), detail: "unpacking"}
}

// file says which file is next.
func (r *extractReport) file(name string) {
	r.detail = "unpacking " + name
	r.send()
}

// read counts bytes of the bundle.
func (r *extractReport) read(n int) {
	r.done += int64(n)
	if time.Since(r.last) >= reportEvery {
		r.send()
	}
}

func (r *extractReport) send() {
	r.last = time.Now()
	r.report(r.detail, r.from+int(int64(unpackShare-r.from)*r.done/r.size))
}
