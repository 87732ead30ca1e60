package guest

import (
	"strings"
	"unicode/utf8"
)

// MaxText bounds a guest's own words in the host's errors, records and logs, in
// bytes.
const MaxText = 1 << 10

// ellipsis marks where text was cut.
const ellipsis = " […]"

// Excerpt returns the start of what a guest, or a VMM on its behalf, has said:
// at most MaxText bytes, which are valid UTF-8. It doesn't escape anything.
func Excerpt(said string) string {
	if len(said) > MaxText {
		end := MaxText - len(ellipsis)
		for end > 0 && !utf8.RuneStart(said[end]) {
			end--
		}
		said = said[:end] + ellipsis
	}
	return strings.ToValidUTF8(said, "?") // no longer than before
}
