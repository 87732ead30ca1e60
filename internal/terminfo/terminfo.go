// Package terminfo finds descriptions of terminals, terminfo(5), as programs in
// a terminal do. The host's side looks for that of its own terminal, the guest's
// for whether it has it.
package terminfo

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"

	"banger/internal/regularfile"
)

// Variable is the variable of an SSH session by which the description of the
// client's terminal comes along, see Encode. No command gets it.
const Variable = "BANGER_TERMINFO"

// Fallback is the terminal that all of today's understand.
const Fallback = "xterm-256color"

// maxSize bounds a description, in bytes; ncurses reads no larger ones.
const maxSize = 32 << 10

// names are those of terminals that have descriptions; they are file names.
var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+._-]{0,63}$`)

// IsName tells whether a terminal of that name can have a description.
func IsName(name string) bool { return names.MatchString(name) }

// systemDirs are where distributions keep descriptions.
func systemDirs() []string {
	return []string{"/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/local/share/terminfo", "/usr/lib/terminfo"}
}

// Dirs are the directories in which a user's programs look for descriptions:
// $TERMINFO (which may be ""), the user's own, $TERMINFO_DIRS, the system's.
func Dirs(terminfo, home, terminfoDirs string) []string {
	var dirs []string
	if filepath.IsAbs(terminfo) {
		dirs = append(dirs, terminfo)
	}
	if filepath.IsAbs(home) {
		dirs = append(dirs, Own(home))
	}
	for _, dir := range filepath.SplitList(terminfoDirs) {
		if filepath.IsAbs(dir) {
			dirs = append(dirs, dir)
		}
	}
	return append(dirs, systemDirs()...)
}

// Own is the directory of a user's own descriptions.
func Own(home string) string { return filepath.Join(home, ".terminfo") }

// Place is where a terminal's description is below a directory of them. The
// name has to be one.
func Place(name string) string { return filepath.Join(name[:1], name) }

// Find returns the description of a terminal from the first directory that has
// it, nil if there is none. Nothing but a small regular file with the mark of a
// description counts.
func Find(name string, dirs []string) []byte {
	if !IsName(name) {
		return nil
	}
	for _, dir := range dirs {
		// By its first letter or, where file names have no case, that in hex.
		for _, place := range []string{Place(name), filepath.Join(fmt.Sprintf("%02x", name[0]), name)} {
			if data, err := read(filepath.Join(dir, place)); err == nil {
				return data
			}
		}
	}
	return nil
}

func read(path string) ([]byte, error) {
	data, err := regularfile.Read(path, 0, maxSize)
	if err != nil {
		return nil, err
	}
	return data, check(data)
}

// check tells whether data can be a compiled description, term(5).
func check(data []byte) error {
	const header = 12
	switch {
	case len(data) > maxSize:
		return errors.New("it is too large")
	case len(data) < header:
		return errors.New("it is too short")
	case !bytes.HasPrefix(data, []byte{0x1a, 0x01}) && !bytes.HasPrefix(data, []byte{0x1e, 0x02}):
		return errors.New("it has no mark")
	}
	return nil
}

// Encode makes a description the value of Variable.
func Encode(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// Decode is Encode's inverse, for values of others.
func Decode(text string) ([]byte, error) {
	if len(text) > base64.StdEncoding.EncodedLen(maxSize) {
		return nil, errors.New("a terminal's description is too large")
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		err = check(data)
	}
	if err != nil {
		return nil, fmt.Errorf("decode a terminal's description: %w", err)
	}
	return data, nil
}
