package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// loadModules loads every *.ko of a directory in the order of their names. A
// module that fails doesn't keep the others from being tried.
func loadModules(dir string, log *slog.Logger) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.ko"))
	if err != nil {
		return err
	}
	var failed error
	for _, path := range paths {
		if err := loadModule(path); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	log.Debug("modules loaded", "count", len(paths))
	return failed
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", filepath.Base(path), err)
	}
	return nil
}
