package progress

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// screen is as much of a terminal as bars use. Lines that don't fit wrap.
type screen struct {
	width int

	mu    sync.Mutex
	lines [][]rune
	row   int
	col   int
	rest  []byte // an escape sequence or rune that is not complete
}

// newScreen returns a terminal of that width, and what is on its screen.
func newScreen(t *testing.T, width int) (*os.File, *screen) {
	t.Helper()
	keyboard, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close(); tty.Close() })
	if err := pty.Setsize(keyboard, &pty.Winsize{Cols: uint16(width), Rows: 12}); err != nil {
		t.Fatal(err)
	}
	s := &screen{width: width}
	go s.follow(keyboard)
	return tty, s
}

// follow draws what comes from the terminal's other end, until it is closed.
func (s *screen) follow(f *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		s.mu.Lock()
		s.rest = append(s.rest, buf[:n]...)
		for s.draw() {
		}
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// draw draws one character or sequence; false if it is not complete.
func (s *screen) draw() bool {
	for len(s.lines) <= s.row {
		s.lines = append(s.lines, nil)
	}
	if len(s.rest) == 0 {
		return false
	}
	if s.rest[0] == '\x1b' {
		end := bytes.IndexAny(s.rest, "AJKhl")
		if end < 0 {
			return false
		}
		n := 1
		_, _ = fmt.Sscanf(string(s.rest[2:end]), "%d", &n)
		switch s.rest[end] {
		case 'A':
			s.row = max(0, s.row-n)
		case 'J':
			s.lines = s.lines[:s.row+1]
			s.lines[s.row] = s.lines[s.row][:min(s.col, len(s.lines[s.row]))]
		}
		s.rest = s.rest[end+1:]
		return true
	}
	r := []rune(string(s.rest))[0]
	if r == '\uFFFD' {
		return false
	}
	s.rest = s.rest[len(string(r)):]
	switch r {
	case '\r':
		s.col = 0
	case '\n':
		s.row++
	default:
		if s.col == s.width {
			s.row, s.col = s.row+1, 0
			s.lines = append(s.lines, nil)
		}
		line := s.lines[s.row]
		for len(line) <= s.col {
			line = append(line, ' ')
		}
		line[s.col] = r
		s.lines[s.row] = line
		s.col++
	}
	return true
}

// String returns the lines that aren't empty.
func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var text strings.Builder
	for _, line := range s.lines {
		if l := strings.TrimRight(string(line), " "); l != "" {
			text.WriteString(l + "\n")
		}
	}
	return text.String()
}

func (s *screen) waitFor(t *testing.T, what string, ok func(lines []string) bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		text := s.String()
		if ok(strings.Split(strings.TrimSuffix(text, "\n"), "\n")) {
			t.Logf("%s:\n%s", what, text)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never saw %s, but:\n%s", what, text)
		}
	}
}
