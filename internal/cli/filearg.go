package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"banger/internal/api"
)

// absolute makes a path absolute, since bangerd is elsewhere.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", api.Errorf(api.CodeInvalid, "resolve %s: %v", path, err)
	}
	return abs, nil
}

// existing returns the absolute path of a file, or of a directory, that must
// exist.
func existing(path string, directory bool) (string, error) {
	abs, err := absolute(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", api.Errorf(api.CodeInvalid, "there is no %s", path)
	case err != nil:
		return "", api.Errorf(api.CodeInvalid, "look at %s: %v", path, err)
	case info.IsDir() && !directory:
		return "", api.Errorf(api.CodeInvalid, "%s is a directory", path)
	case !info.IsDir() && directory:
		return "", api.Errorf(api.CodeInvalid, "%s is not a directory", path)
	}
	return abs, nil
}

// bundleSuffix is what the names of bundles end in.
const bundleSuffix = ".tar.zst"

// isFileName tells the names of bundles and archives from those of images.
func isFileName(word string) bool {
	for _, suffix := range []string{bundleSuffix, ".tar", ".tar.gz", ".tgz"} {
		if strings.HasSuffix(word, suffix) {
			return true
		}
	}
	return false
}

// pullRef is what bangerd is asked to pull for a word of the command line:
// that word, or an absolute path if it looks like a file. Names of registries'
// images never begin with a dot or a slash. Only images are in directories.
func pullRef(word string, directories bool) (string, error) {
	isURL := strings.HasPrefix(word, "http://") || strings.HasPrefix(word, "https://")
	isPath := strings.HasPrefix(word, "/") || strings.HasPrefix(word, ".")
	if !isPath && (isURL || !isFileName(word)) {
		return word, nil
	}
	if info, err := os.Stat(word); directories && err == nil && info.IsDir() {
		return absolute(word)
	}
	return existing(word, false)
}

// sha256Flag is a checksum in hex, as sha256sum prints it; a prefix "sha256:"
// may stand before it.
type sha256Flag struct{ hex string }

// String returns the checksum.
func (f *sha256Flag) String() string { return f.hex }

// Type is what help shows in place of the value.
func (f *sha256Flag) Type() string { return "hex" }

// Set parses a value.
func (f *sha256Flag) Set(text string) error {
	digits := strings.ToLower(strings.TrimPrefix(text, "sha256:"))
	if len(digits) != 64 || strings.Trim(digits, "0123456789abcdef") != "" {
		return errors.New("it must have 64 hexadecimal digits")
	}
	f.hex = digits
	return nil
}
