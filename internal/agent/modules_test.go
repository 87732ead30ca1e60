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

func TestMountUnit(t *testing.T) {
	for where, want := range map[string]string{ // as systemd-escape --path --suffix=mount says
		"/usr/lib/modules": "usr-lib-modules.mount",
		"/lib/modules":     "lib-modules.mount",
		"/a-b/.c/d.e_f":    `a\x2db-.c-d.e_f.mount`,
		"/.a/ü":            `\x2ea-\xc3\xbc.mount`,
	} {
		if got := mountUnit(where); got != want {
			t.Errorf("%s: %s, want %s", where, got, want)
		}
	}
}
