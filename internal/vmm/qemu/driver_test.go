package qemu

import (
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
)

func TestMissingQEMU(t *testing.T) {
	_, err := FindBinary(filepath.Join(t.TempDir(), "qemu"))
	if e := api.AsError(err); e.Code != api.CodeHost || !strings.Contains(e.Hint, "apt install qemu-system-x86") {
		t.Errorf("got %+v", e)
	}
}
