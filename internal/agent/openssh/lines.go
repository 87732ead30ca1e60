package openssh

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"unicode"
)

// maxLine is where a line without an end is cut, in bytes.
const maxLine = 4 << 10

// lineWriter passes on whole lines, each with a prefix, and to copyTo, if there
// is one, without. A carriage return ends a line as well: programs redraw their
// progress by it. Control characters, which would change a terminal's state, are
// dropped. Nobody needs to know when a line can't be written.
type lineWriter struct {
	mu      sync.Mutex
	w       io.Writer
	prefix  string
	copyTo  io.Writer
	pending []byte
}

func newLineWriter(w io.Writer, prefix string) *lineWriter { return &lineWriter{w: w, prefix: prefix} }

func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = append(l.pending, p...)
	for {
		i := bytes.IndexAny(l.pending, "\r\n")
		if i < 0 && len(l.pending) < maxLine {
			return len(p), nil
		}
		if i < 0 {
			l.line(l.pending[:maxLine])
			l.pending = l.pending[maxLine:]
			continue
		}
		l.line(l.pending[:i])
		l.pending = l.pending[i+1:]
	}
}

// flush ends a line that has no end.
func (l *lineWriter) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line(l.pending)
	l.pending = nil
}

func (l *lineWriter) line(line []byte) {
	text := strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, string(line))
	if strings.TrimSpace(text) == "" {
		return
	}
	_, _ = io.WriteString(l.w, l.prefix+text+"\n")
	if l.copyTo != nil {
		_, _ = io.WriteString(l.copyTo, text+"\n")
	}
}
