package dockerbuild

import (
	"bytes"
	"strings"
	"sync"
)

// tailLines is how much of a failed build's output its error quotes.
const tailLines = 8

// maxTailLine is where a line is cut, in bytes: whatever follows is dropped.
const maxTailLine = 512

// tail passes lines on and keeps the last of them. Both streams of a command
// write to it.
type tail struct {
	onLine func(string)

	mu      sync.Mutex
	partial []byte
	lines   []string
}

func newTail(onLine func(string)) *tail { return &tail{onLine: onLine} }

// Write takes output, in pieces of any size.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for rest := p; ; {
		line, more, found := bytes.Cut(rest, []byte("\n"))
		t.partial = append(t.partial, line[:min(len(line), maxTailLine-len(t.partial))]...)
		if !found {
			return len(p), nil
		}
		t.add(string(t.partial))
		t.partial, rest = t.partial[:0], more
	}
}

func (t *tail) add(line string) {
	if line = strings.TrimSpace(line); line == "" {
		return
	}
	t.lines = append(t.lines, line)
	t.lines = t.lines[max(0, len(t.lines)-tailLines):]
	t.onLine(line)
}

// last returns the last lines in one.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(string(t.partial))
	t.partial = nil
	return strings.Join(t.lines, " | ")
}
