package sshd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// localeDir has the locales of a guest with glibc. Others have none.
const localeDir = "/usr/lib/locale"

// localeVariables choose a locale, locale(7). Others that begin with LC_ are of
// terminals, or of people who know what their servers accept.
var localeVariables = []string{
	"LANG", "LC_ALL", "LC_ADDRESS", "LC_COLLATE", "LC_CTYPE", "LC_IDENTIFICATION", "LC_MEASUREMENT", "LC_MESSAGES",
	"LC_MONETARY", "LC_NAME", "LC_NUMERIC", "LC_PAPER", "LC_TELEPHONE", "LC_TIME",
}

// withoutUnknownLocales removes what chooses a locale that the guest lacks: a
// client's often is one, and programs would complain, or forget about UTF-8.
func withoutUnknownLocales(env environment, dir string) {
	for _, name := range localeVariables {
		if value, ok := env[name]; ok && !hasLocale(value, dir) {
			delete(env, name)
		}
	}
}

// hasLocale tells whether a locale exists: those that are always there, a
// directory, or an entry of the archive.
func hasLocale(locale, dir string) bool {
	names := []string{locale, normalLocale(locale)}
	for _, name := range names {
		switch name {
		case "", "C", "POSIX", "C.utf8":
			return true
		}
		if strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ".") {
			return false
		}
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.IsDir() {
			return true
		}
	}
	archive, err := localeNames(filepath.Join(dir, "locale-archive"))
	return err == nil && (bytes.Contains(archive, []byte("\x00"+names[0]+"\x00")) || bytes.Contains(archive, []byte("\x00"+names[1]+"\x00")))
}

// normalLocale writes a locale's codeset as glibc does: en_US.UTF-8 is
// en_US.utf8.
func normalLocale(locale string) string {
	base, modifier, hasModifier := strings.Cut(locale, "@")
	language, codeset, hasCodeset := strings.Cut(base, ".")
	if hasCodeset {
		codeset = strings.Map(func(r rune) rune {
			switch {
			case r >= 'A' && r <= 'Z':
				return r + 'a' - 'A'
			case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
				return r
			}
			return -1
		}, codeset)
		language += "." + codeset
	}
	if hasModifier {
		language += "@" + modifier
	}
	return language
}

// Of locale-archive, glibc's locale/locarchive.h: numbers in the machine's order
// of bytes at the start of the file.
const (
	archiveMagic     = 0xde020109
	archiveStringsAt = 5 // the number that says where the names begin
	archiveStrings   = 6 // and how many bytes there are
	maxArchiveNames  = 1 << 20
)

// localeNames returns the part of a locale archive that has the names, each
// between zero bytes.
func localeNames(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var head [8]uint32
	if err := binary.Read(f, binary.NativeEndian, &head); err != nil {
		return nil, err
	}
	at, size := head[archiveStringsAt], head[archiveStrings]
	if head[0] != archiveMagic || size > maxArchiveNames {
		return nil, errors.New("it is no locale archive")
	}
	names := make([]byte, 1+size)
	_, err = f.ReadAt(names[1:], int64(at)) // behind the zero of the one before
	return names, err
}
