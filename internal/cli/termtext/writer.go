package termtext

import (
	"bytes"
	"io"
	"regexp"
	"unicode/utf8"
)

// Writer escapes what is written to it, as Lines does. A character may come in
// several writes. It is for one goroutine at a time.
type Writer struct {
	w       io.Writer
	console bool
	rest    []byte // of a character or sequence that isn't complete
	err     error
}

// NewWriter returns a writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// NewConsole returns a writer for the output of a machine's console. Carriage
// returns before a newline are left out, and sequences that only choose colours
// and type styles (SGR, ECMA-48 section 8.3.117) stay: init systems and
// container engines colour what they write there, and such a sequence can do
// nothing but make the text after it hard to read, which Close ends.
func NewConsole(w io.Writer) *Writer { return &Writer{w: w, console: true} }

const (
	// maxSequence is how long a sequence may be, in bytes.
	maxSequence = 64
	sgrReset    = "\x1b[0m"
)

var (
	// harmless is what a console may write of control characters.
	harmless = regexp.MustCompile(`^(\x1b\[[0-9;:]*m|\r+\n)`)
	// begun is the beginning of that.
	begun = regexp.MustCompile(`^(\x1b(\[[0-9;:]*)?|\r+)$`)
)

// Write writes p, or what of it is complete, and keeps the rest for the next
// Write or Close.
func (t *Writer) Write(p []byte) (int, error) {
	if t.send(p, false); t.err != nil {
		return 0, t.err
	}
	return len(p), nil
}

// Close writes what was kept. It doesn't close the writer below.
func (t *Writer) Close() error {
	t.send(nil, true)
	if t.err == nil && t.console {
		_, t.err = io.WriteString(t.w, sgrReset)
	}
	return t.err
}

// send writes what is complete, at the end all.
func (t *Writer) send(p []byte, end bool) {
	if t.err != nil {
		return
	}
	in := append(t.rest, p...)
	var out []byte
	for len(in) > 0 {
		text, n := t.next(in, end)
		if n == 0 {
			break
		}
		out, in = append(out, text...), in[n:]
	}
	t.rest = bytes.Clone(in) // p is the caller's
	if len(out) > 0 {
		_, t.err = t.w.Write(out)
	}
}

// next returns the text for the first n bytes of in; n is 0 if more has to come
// before that is known.
func (t *Writer) next(in []byte, end bool) (text string, n int) {
	if t.console && (in[0] == '\x1b' || in[0] == '\r') {
		return nextControl(in, end)
	}
	n = len(in)
	if i := bytes.IndexAny(in, "\x1b\r"); t.console && i >= 0 {
		return Lines(string(in[:i])), i
	}
	if !end {
		n -= incomplete(in)
	}
	return Lines(string(in[:n])), n
}

// nextControl is next where a console has written an escape or a carriage
// return.
func nextControl(in []byte, end bool) (text string, n int) {
	near := in[:min(len(in), maxSequence)]
	found := harmless.Find(near)
	switch {
	case found != nil && found[0] == '\r':
		return "\n", len(found)
	case found != nil:
		return string(found), len(found)
	case !end && len(in) < maxSequence && begun.Match(in):
		return "", 0
	}
	return Lines(string(in[:1])), 1
}

// incomplete returns how many bytes at the end of in are the start of a
// character.
func incomplete(in []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(in); n++ {
		last := in[len(in)-n:]
		if utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				return 0
			}
			return n
		}
	}
	return 0
}
