package api

import (
	"encoding/json"
	"fmt"
)

// EventType says which field of an Event counts.
type EventType string

// The types of events.
const (
	EventProgress EventType = "progress"
	EventResult   EventType = "result"
	EventError    EventType = "error"
)

// Event is one line of a Stream's answer.
type Event struct {
	Type     EventType       `json:"type"`
	Progress *Progress       `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Error          `json:"error,omitempty"`
}

// Progress tells how far a phase of long work is. The first event of a phase
// starts it; an event with Finished ends it.
type Progress struct {
	Phase    string `json:"phase"`            // stable machine name, e.g. "image-build"
	Title    string `json:"title,omitempty"`  // for people, e.g. "building image debian-minimal"
	Detail   string `json:"detail,omitempty"` // what is happening now
	Done     int64  `json:"done,omitempty"`   // of Total, in Unit
	Total    int64  `json:"total,omitempty"`  // 0: unknown
	Unit     string `json:"unit,omitempty"`   // "bytes", "files", "percent" or ""
	Finished bool   `json:"finished,omitempty"`
	Millis   int64  `json:"ms,omitempty"` // with Finished: how long the phase took

	// Notice is a line for people that isn't about progress: what was done
	// otherwise than they may expect. An event with one has no other field.
	Notice string `json:"notice,omitempty"`
}

// ProgressFunc receives progress. It must be quick and safe for concurrent
// use. Functions that take one accept nil.
type ProgressFunc func(Progress)

// Notice reports a line for people.
func (f ProgressFunc) Notice(format string, args ...any) {
	f.Report(Progress{Notice: fmt.Sprintf(format, args...)})
}

// Report calls f unless it is nil.
func (f ProgressFunc) Report(p Progress) {
	if f != nil {
		f(p)
	}
}
