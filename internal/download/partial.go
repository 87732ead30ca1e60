package download

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"banger/internal/transfer"
)

// originSuffix ends the name of the file beside a partial one that says what that
// is the start of.
const originSuffix = ".origin"

// origin says what a partial file is the start of.
type origin struct {
	URL string `json:"url"`
	// Validator identifies the version of the file, for If-Range (RFC 9110,
	// section 13.1.5): a strong entity tag or a date. Empty if the server
	// gives neither.
	Validator string `json:"validator"`
}

// readOrigin returns what the partial file f is the start of; nothing if that
// isn't known.
func readOrigin(f *os.File) (origin, error) {
	var o origin
	data, err := os.ReadFile(f.Name() + originSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	if err != nil {
		return o, fmt.Errorf("read where a partial file is from: %w", err)
	}
	if json.Unmarshal(data, &o) != nil {
		return origin{}, nil // cut off by a crash
	}
	return o, nil
}

// writeOrigin must come before the first byte of the file.
func writeOrigin(f *os.File, o origin) error {
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.Name()+originSuffix, data, 0o600); err != nil {
		return fmt.Errorf("note where a partial file is from: %w", err)
	}
	return nil
}

// finish gives the complete file f the name path.
func finish(f *os.File, path string) error {
	if err := transfer.Remove(f.Name() + originSuffix); err != nil {
		return err
	}
	return transfer.Place(f, path)
}

// dropIfEmpty removes a partial file that nobody could go on with. Its lock is
// still held.
func dropIfEmpty(f *os.File) error {
	if empty, err := transfer.IsEmpty(f); !empty {
		return err
	}
	return dropPartial(f)
}

// dropPartial removes a partial file. Its lock is still held.
func dropPartial(f *os.File) error {
	return errors.Join(transfer.Remove(f.Name()+originSuffix), transfer.Remove(f.Name()))
}
