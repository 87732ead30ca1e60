package agent

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNoDevice: a module for what the machine lacks is no error; one that is
// broken or refused is.
func TestNoDevice(t *testing.T) {
	for err, want := range map[error]bool{
		unix.ENODEV: true, unix.EOPNOTSUPP: true,
		unix.ENOEXEC: false, unix.EPERM: false, errors.New("other"): false,
	} {
		if got := noDevice(fmt.Errorf("load module x.ko: %w", err)); got != want {
			t.Errorf("noDevice(%v) = %t", err, got)
		}
	}
	if noDevice(nil) {
		t.Error("success is taken for a device that isn't there")
	}
}
