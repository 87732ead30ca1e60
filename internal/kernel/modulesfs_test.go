package kernel

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"banger/internal/hosttool"
)

// The file system depends on the modules, not on when it was made.
func TestWriteModules(t *testing.T) {
	fsck, err := hosttool.Tool{Name: "e2fsck", Package: "e2fsprogs"}.Find()
	if err != nil {
		t.Fatal(err)
	}
	packaged := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	var first []byte
	for _, now := range []time.Time{packaged.AddDate(0, 1, 0), packaged.AddDate(0, 2, 0)} {
		dir := t.TempDir()
		modules := filepath.Join(dir, "modules")
		module, index := filepath.Join(modules, "6.1.2/kernel/a.ko"), filepath.Join(modules, "6.1.2/modules.dep")
		write(t, module, elfFile([]string{"depends="}))
		write(t, index, []byte("kernel/a.ko:\n"))
		for path, at := range map[string]time.Time{
			module: packaged, index: now, filepath.Dir(module): now, filepath.Dir(index): now, modules: now,
		} {
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
		}
		image := filepath.Join(dir, modulesFile)
		if err := writeModules(t.Context(), modules, image); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(fsck, "-fn", image).CombinedOutput(); err != nil {
			t.Errorf("e2fsck: %v\n%s", err, out)
		}
		data, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
		} else if !bytes.Equal(first, data) {
			t.Error("the file systems of two days differ")
		}
	}
}
