// Package termtext makes text of strangers fit for a terminal. What guests,
// images, repositories and servers say ends up in messages and tables, and a
// terminal takes more from text than letters: an escape sequence can clear the
// screen, fill the clipboard (OSC 52) or type into the shell, and invisible
// characters can make a word look like another one. All of that is made
// visible: \x1b, \u202e.
//
// The form is for people. It isn't reversible, since a backslash of the text
// stays as it is; who needs the exact text asks for JSON.
package termtext

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Line returns s as part of one line: everything that isn't a visible
// character or a space is escaped, newlines and tabs as well.
func Line(s string) string { return escape(s, "") }

// Lines returns s with its newlines and tabs, and all else escaped as by Line.
func Lines(s string) string { return escape(s, "\n\t") }

// Unsafe reports whether a terminal may do anything else with r than show it in
// its place: control characters (C0, DEL, C1), format characters (bidirectional
// overrides and isolates, zero-width ones, tags), others that are shown as
// nothing (fillers, variation selectors) and the separators of lines and
// paragraphs. So an emoji that is one only by a selector is shown with that:
// rather that than a word that isn't what it looks like. See https://www.unicode.org/reports/tr36/ and, for what
// controls do, https://invisible-island.net/xterm/ctlseqs/ctlseqs.html.
func Unsafe(r rune) bool {
	if r < utf8.RuneSelf {
		return r < ' ' || r == 0x7f
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp,
		unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// escape escapes all that is unsafe but the characters of keep.
func escape(s, keep string) string {
	var out strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, s[i])
		case Unsafe(r) && !strings.ContainsRune(keep, r):
			out.WriteString(visible(r))
		default:
			out.WriteString(s[i : i+size])
		}
		i += size
	}
	return out.String()
}

// visible writes a rune as Go and most languages would in a string.
func visible(r rune) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case r < utf8.RuneSelf:
		return fmt.Sprintf(`\x%02x`, r)
	case r > 0xffff:
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// JSON escapes JSON, whose strings are the only place for anything unsafe, in
// its own way: the result means exactly the same.
func JSON(text string) string {
	var out strings.Builder
	for _, r := range text {
		switch {
		case !Unsafe(r) || r == '\n' || r == '\t':
			out.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}
