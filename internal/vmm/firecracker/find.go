package firecracker

import (
	"cmp"

	"banger/internal/vmm"
)

// FindBinary returns the absolute path of Firecracker: configured if it isn't
// empty, else the one on PATH. A missing Firecracker is an api.CodeHost error.
func FindBinary(configured string) (string, error) {
	return vmm.FindBinary("Firecracker", cmp.Or(configured, Name), "install it: banger setup; or set firecracker_bin in config.toml")
}
