package regularfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	file, link, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	err := errors.Join(os.WriteFile(file, []byte("0123456789"), 0o600), os.Symlink("file", link), unix.Mkfifo(pipe, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link} {
		if data, err := Read(path, 0, 10); err != nil || string(data) != "0123456789" {
			t.Errorf("%s: %q, %v", path, data, err)
		}
	}
	if _, err := Read(file, 0, 9); err == nil {
		t.Error("a file that is too long was read")
	}
	if _, err := Read(link, unix.O_NOFOLLOW, 10); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link: %v", err)
	}
	for _, path := range []string{pipe, dir, "/dev/zero"} {
		if _, err := Read(path, 0, 10); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Read(filepath.Join(dir, "none"), 0, 10); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
