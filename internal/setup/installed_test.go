package setup

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestInstalledPicks(t *testing.T) {
	dir := t.TempDir()
	put := func(version string, mode os.FileMode) {
		for _, program := range []string{firecracker, jailer} {
			path := filepath.Join(dir, version, program)
			err := os.MkdirAll(filepath.Dir(path), 0o700)
			if err := errors.Join(err, os.WriteFile(path, nil, mode)); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("v1.9.0", 0o755)
	put("v1.10.0", 0o755)
	put("v2.0.0", 0o644) // not a program
	if got, ok := Installed(dir); !ok || got.Version != "v1.10.0" {
		t.Errorf("got %+v, %v; want the newest", got, ok)
	}
	put("v9.0.0", 0o755)
	put(Pinned().Version, 0o755)
	if got, ok := Installed(dir); !ok || got.Version != Pinned().Version {
		t.Errorf("got %+v, %v; want the pinned one", got, ok)
	}
}

func TestPinned(t *testing.T) {
	r := Pinned()
	for goarch, machine := range machines {
		sum, err := hex.DecodeString(r.SHA256[goarch])
		if err != nil || len(sum) != sha256.Size {
			t.Errorf("%s has no sum: %q", machine, r.SHA256[goarch])
		}
	}
	if numbers(r.Version) == nil {
		t.Errorf("version %q", r.Version)
	}
}
