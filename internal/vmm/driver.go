package vmm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"banger/internal/api"
)

// FindBinary returns the absolute path of a VMM's program, which may be on PATH.
// A missing one is an api.CodeHost error with that hint.
func FindBinary(title, program, hint string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", api.Errorf(api.CodeHost, "%s isn't installed: find %s: %v", title, program, err).WithHint("%s", hint)
	}
	return path, nil
}

// Open takes hold of the handle's process, for a driver to adopt it. title is what
// messages call the program.
func (h Handle) Open(driver, title string) (*Process, error) {
	if h.Driver != driver {
		return nil, fmt.Errorf("adopt VMM: its driver is %q, not %q", h.Driver, driver)
	}
	process, err := OpenProcess(h.PID, h.StartTime)
	if err != nil {
		return nil, fmt.Errorf("adopt %s, process %d: %w", title, h.PID, err)
	}
	return process, nil
}

// RemoveSockets removes the sockets that a VMM has left, if they are there.
func RemoveSockets(paths ...string) error {
	var errs []error
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
