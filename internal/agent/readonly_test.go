package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMountReadOnly: nothing can be written below any more, but on what was
// mounted there before.
func TestMountReadOnly(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	makeFiles(t, dir, map[string]string{"kept": "as it was", "below/f": "below the mount"})
	inMountNamespace(t, func() error {
		below := filepath.Join(dir, "below")
		if err := unix.Mount("tmpfs", below, "tmpfs", 0, ""); err != nil {
			return err
		}
		defer unix.Unmount(below, unix.MNT_DETACH)
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), dir)
		defer f.Close()
		if err := mountReadOnly(f); err != nil {
			return err
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		for _, name := range []string{"new", "kept"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("write %s: %v", name, err)
			}
		}
		if data, err := os.ReadFile(filepath.Join(dir, "kept")); err != nil || string(data) != "as it was" {
			t.Errorf("read: %q, %v", data, err)
		}
		if err := os.WriteFile(filepath.Join(below, "new"), nil, 0o600); err != nil {
			t.Errorf("write to what is mounted below: %v", err)
		}
		return nil
	})
}

// TestProtect: at a boot, what is gone is left out, and what can't be protected
// keeps no guest from booting. No link leads out of the root.
func TestProtect(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	_, dir, outside := newTestRoot(t)
	makeFiles(t, dir, map[string]string{"srv/a/f": "a", "etc/file": "no directory"})
	inMountNamespace(t, func() error {
		root, err := openRootDir(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		warnings := protect(root, []string{"/srv/a", "/srv/gone", "/out", "/etc/file"})
		defer unix.Unmount(filepath.Join(dir, "srv/a"), unix.MNT_DETACH)
		if len(warnings) != 1 || !strings.Contains(warnings[0], "/etc/file") {
			t.Errorf("warnings: %q", warnings)
		}
		if err := os.WriteFile(filepath.Join(dir, "srv/a/f"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("write: %v", err)
		}
		return os.WriteFile(filepath.Join(outside, "f"), nil, 0o600)
	})
}
