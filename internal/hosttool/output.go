package hosttool

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
)

const (
	// maxLine bounds what is kept of a line without an end.
	maxLine = 64 << 10
	// tailLines is how many lines are kept for an error.
	tailLines = 40
)

// output splits what a program writes into lines. exec.Cmd writes to it from
// one goroutine at a time.
type output struct {
	onLine  func(string)
	log     *slog.Logger
	pending []byte
	tail    []string
	noSpace bool
}

func newOutput(onLine func(string), log *slog.Logger) *output {
	return &output{onLine: onLine, log: log}
}

// Write takes any piece of output. A carriage return ends a line too:
// programs use it to redraw progress.
func (o *output) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			o.pending = append(o.pending, p...)
			if len(o.pending) > maxLine {
				o.flush()
			}
			break
		}
		o.pending = append(o.pending, p[:i]...)
		o.flush()
		p = p[i+1:]
	}
	return n, nil
}

// flush ends the pending line.
func (o *output) flush() {
	line := strings.ToValidUTF8(string(o.pending), "\uFFFD")
	o.pending = o.pending[:0]
	if strings.TrimSpace(line) == "" {
		return
	}
	// The C library's words for ENOSPC and EDQUOT.
	if strings.Contains(line, "No space left on device") || strings.Contains(line, "Disk quota exceeded") {
		o.noSpace = true
	}
	o.tail = append(o.tail, line)
	if len(o.tail) > tailLines {
		o.tail = o.tail[1:]
	}
	o.log.Debug(line)
	if o.onLine != nil {
		o.onLine(line)
	}
}

// explain makes the error of a program that ended with err.
func (o *output) explain(tool string, err error) error {
	words := lastWords(o.tail)
	if o.noSpace {
		return fmt.Errorf("run %s: %w: %s", tool, syscall.ENOSPC, words)
	}
	if words == "" {
		return fmt.Errorf("run %s: %w", tool, err)
	}
	return fmt.Errorf("run %s: %w: %s", tool, err, words)
}
