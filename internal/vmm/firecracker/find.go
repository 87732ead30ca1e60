package firecracker

import (
	"os/exec"
	"path/filepath"

	"banger/internal/api"
)

// FindBinary returns the absolute path of Firecracker: configured if it isn't
// empty, else the one on PATH. A missing Firecracker is an api.CodeHost error.
func FindBinary(configured string) (string, error) {
	name := configured
	if name == "" {
		name = Name
	}
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", api.Errorf(api.CodeHost, "Firecracker isn't installed: find %s: %v", name, err).
			WithHint("install it: banger setup; or set firecracker_bin in config.toml")
	}
	return path, nil
}
