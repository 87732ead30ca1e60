package agent

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guest"
)

func TestArchiveCall(t *testing.T) {
	dir := t.TempDir()
	big := strings.Repeat("0123456789abcdef", 200_000) // several chunks
	makeFiles(t, dir, map[string]string{"big": big, "etc/hostname": "fox"})
	w := newTestWorker()
	w.openRoot = func() (*liveRoot, error) { return openTestRoot(t, dir, nil, given{}), nil }
	var b bytes.Buffer
	must(t, dialTestWorker(t, w).Archive(t.Context(), &b))
	entries, names := untar(t, &b)
	if entries["big"].content != big || len(names) != 3 {
		t.Errorf("got %v", names)
	}
}

func TestArchiveCallReportsMistakes(t *testing.T) {
	dir := t.TempDir()
	makeFiles(t, dir, map[string]string{"f": strings.Repeat("x", 3_000_000)})
	w := newTestWorker()
	c := dialTestWorker(t, w)
	var remote *guest.RemoteError

	w.openRoot = func() (*liveRoot, error) { return nil, errors.New("no such root") }
	if err := c.Archive(t.Context(), io.Discard); !errors.As(err, &remote) || remote.Msg != "no such root" {
		t.Errorf("a root that can't be opened: %v", err)
	}
	// Closed: it can't be read once the stream has begun.
	w.openRoot = func() (*liveRoot, error) { l := openTestRoot(t, dir, nil, given{}); return l, l.root.Close() }
	if err := c.Archive(t.Context(), io.Discard); !errors.As(err, &remote) {
		t.Errorf("a root that can't be read: %v", err)
	}
	w.openRoot = func() (*liveRoot, error) { return openTestRoot(t, dir, nil, given{}), nil }
	full := errors.New("disk full")
	if err := c.Archive(t.Context(), errWriter{full}); !errors.Is(err, full) {
		t.Errorf("a host that can't write: %v", err)
	}
}

type errWriter struct{ err error }

func (w errWriter) Write([]byte) (int, error) { return 0, w.err }

// TestOpenTreeSeesNoMounts needs a mount namespace of its own.
func TestOpenTreeSeesNoMounts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	makeFiles(t, dir, map[string]string{"below/f": "below the mount"})
	inMountNamespace(t, func() error {
		if err := unix.Mount("tmpfs", filepath.Join(dir, "below"), "tmpfs", 0, ""); err != nil {
			return err
		}
		defer unix.Unmount(filepath.Join(dir, "below"), unix.MNT_DETACH)
		l := &liveRoot{}
		defer l.close()
		f, err := l.openTree(dir)
		if err != nil {
			return err
		}
		below, err := openAt(f, "below", unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer below.Close()
		entries, err := below.ReadDir(-1)
		if err != nil || len(entries) != 1 {
			t.Errorf("below the mount are %v (%v)", entries, err)
		}
		return nil
	})
}

// inMountNamespace runs f on a thread that ends with its mount namespace.
func inMountNamespace(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		goruntime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	select {
	case err := <-done:
		if errors.Is(err, unix.EPERM) {
			t.Skip("may not mount: ", err)
		}
		must(t, err)
	case <-time.After(time.Minute):
		t.Fatal("it never ends")
	}
}
