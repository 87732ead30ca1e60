package termtext

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLines(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"plain text, ünïcödé, 漢字, 🦀": "plain text, ünïcödé, 漢字, 🦀",
		"a\nb\tc":                    "a\nb\tc",
		"a\r\nb":                     "a\\r\nb",
		"\x1b[2J\x1b]52;c;cm0=\x07":  `\x1b[2J\x1b]52;c;cm0=\x07`,
		"\x00\x08\x7f":               `\x00\x08\x7f`,
		"\u009b2J\u0085":             `\u009b2J\u0085`, // C1 in UTF-8
		"\x9b2J":                     `\x9b2J`,         // and in Latin-1
		"a\xe2\x82":                  `a\xe2\x82`,
		"\xed\xa0\x80":               `\xed\xa0\x80`, // half of a surrogate pair
		"\ufffd":                     "\ufffd",
		"safe\u202egnp.exe\u2066":    `safe\u202egnp.exe\u2066`,
		"ad\u200bmin\ufeff\u00ad":    `ad\u200bmin\ufeff\u00ad`,
		"one\u2028two":               `one\u2028two`,
		"\U000e0041":                 `\U000e0041`,
		`C:\x1b`:                     `C:\x1b`,
		"ad\u034fmin\u180b\u17b4":    `ad\u034fmin\u180b\u17b4`,
		"\u115f\u3164\uffa0":         `\u115f\u3164\uffa0`,
		"\u2764\ufe0f\U000e0100":     "\u2764" + `\ufe0f\U000e0100`,
		"no-break\u00a0space":        "no-break\u00a0space",
	} {
		if got := Lines(in); got != want {
			t.Errorf("Lines(%q) = %q, want %q", in, got, want)
		}
	}
	if got, want := Line("a\n\tb\r"), `a\n\tb\r`; got != want {
		t.Errorf("Line: got %s, want %s", got, want)
	}
}

// TestWriter writes each text at once and byte by byte.
func TestWriter(t *testing.T) {
	type make = func(*bytes.Buffer) *Writer
	plain := func(b *bytes.Buffer) *Writer { return NewWriter(b) }
	console := func(b *bytes.Buffer) *Writer { return NewConsole(b) }
	long := "\x1b[" + strings.Repeat("1;", maxSequence) + "1m"
	for _, tt := range []struct {
		name     string
		make     make
		in, want string
	}{
		{"text", plain, "ünï\n漢\t🦀", "ünï\n漢\t🦀"},
		{"colours", plain, "\x1b[1mA", `\x1b[1mA`},
		{"line ends", plain, "a\r\n", "a\\r\n"},
		{"cut off", plain, "a\xf0\x9f", `a\xf0\x9f`},
		{"C1", plain, "\u009b2J", `\u009b2J`},
		{"colours", console, "\x1b[0;1;31mFAILED\x1b[m \x1b[38:5:1mx", "\x1b[0;1;31mFAILED\x1b[m \x1b[38:5:1mx\x1b[0m"},
		{"line ends", console, "a\r\nb\r\r\nc\n", "a\nb\nc\n\x1b[0m"},
		{"a line written over", console, "rm -rf /\rls\r", "rm -rf /\\rls\\r\x1b[0m"},
		{"clear, clipboard", console, "\x1b[H\x1b[2J\x1b]52;c;cm0=\x07", "\\x1b[H\\x1b[2J\\x1b]52;c;cm0=\\x07\x1b[0m"},
		{"like a colour", console, "\x1b[>4;2m\x1b[?1m\x1b[1 m", "\\x1b[>4;2m\\x1b[?1m\\x1b[1 m\x1b[0m"},
		{"too long", console, long, `\x1b` + long[1:] + sgrReset},
		{"cut off", console, "\x1b[3", "\\x1b[3\x1b[0m"},
		{"escape twice", console, "\x1b\x1b[1m", "\\x1b\x1b[1m\x1b[0m"},
	} {
		for _, size := range []int{1, 2, 3, 4096} {
			var out bytes.Buffer
			w := tt.make(&out)
			for in := tt.in; in != ""; {
				n := min(size, len(in))
				if got, err := w.Write([]byte(in[:n])); got != n || err != nil {
					t.Fatalf("Write: %d, %v", got, err)
				}
				in = in[n:]
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if out.String() != tt.want {
				t.Errorf("%s, %d bytes at a time: got %q, want %q", tt.name, size, out.String(), tt.want)
			}
		}
	}
}

func TestWriterError(t *testing.T) {
	broken := errors.New("broken")
	w := NewWriter(brokenWriter{broken})
	for range 2 {
		if n, err := w.Write([]byte("x")); n != 0 || !errors.Is(err, broken) {
			t.Errorf("Write: %d, %v", n, err)
		}
	}
	if err := w.Close(); !errors.Is(err, broken) {
		t.Errorf("Close: %v", err)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

var colours = regexp.MustCompile(`\x1b\[[0-9;:]*m`)

func FuzzWriter(f *testing.F) {
	f.Add([]byte("\x1b[1mred\x1b]0;title\x07\r\n\u202e\x9b"), 3)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		size = max(1, size)
		for _, console := range []bool{false, true} {
			var out bytes.Buffer
			w := &Writer{w: &out, console: console}
			for rest := in; len(rest) > 0; {
				n := min(size, len(rest))
				if _, err := w.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				if len(w.rest) > maxSequence {
					t.Fatalf("%d bytes are held back", len(w.rest))
				}
				rest = rest[n:]
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			text := out.String()
			if !console && text != Lines(string(in)) {
				t.Errorf("in pieces of %d: %q, at once %q", size, text, Lines(string(in)))
			}
			if console {
				text = colours.ReplaceAllString(text, "")
			}
			if !utf8.ValidString(text) {
				t.Errorf("not UTF-8: %q", text)
			}
			for _, r := range text {
				if Unsafe(r) && r != '\n' && r != '\t' {
					t.Errorf("%q remains in %q", r, text)
				}
			}
		}
	})
}
