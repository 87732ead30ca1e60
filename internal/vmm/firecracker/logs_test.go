package firecracker

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPunchLog writes as Firecracker does: on and on, not in append mode.
func TestPunchLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), logName)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var written int64
	for range 4 {
		for range 2 * punchAbove / (1 << 20) {
			n, err := f.Write(bytes.Repeat([]byte("0123456789abcde\n"), 1<<16))
			if err != nil {
				t.Fatal(err)
			}
			written += int64(n)
		}
		if err := f.Sync(); err != nil { // blocks are counted once they are allocated
			t.Fatal(err)
		}
		err := punchLog(path)
		if errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("this filesystem can't punch holes")
		}
		if err != nil {
			t.Fatal(err)
		}
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil {
			t.Fatal(err)
		}
		if stat.Blocks*512 > 2*punchKeep || stat.Size != written {
			t.Errorf("%d bytes on disk of %d, want %d of %d", stat.Blocks*512, stat.Size, punchKeep, written)
		}
	}
	if got := readLogTail(path, 32); got != strings.Repeat("0123456789abcde\n", 2) {
		t.Errorf("the end is %q", got)
	}
	if err := punchLog(path + ".gone"); err != nil {
		t.Errorf("a missing log: %v", err)
	}
}

func TestOpenLogIsNotMisled(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	link, pipe := filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.Symlink(secret, link), unix.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, pipe} {
		if err := punchLog(path); err == nil {
			t.Errorf("%s was opened", path)
		}
		if got := readLogTail(path, 10); got != "" {
			t.Errorf("%s was read: %q", path, got)
		}
	}
	if _, err := dialUnix(t.Context(), dir, "link"); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("dial a link: %v", err)
	}
}
