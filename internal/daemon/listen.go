package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/paths"
)

// Listen makes this process the one bangerd of the layout: it takes the lock,
// removes the socket that a killed predecessor left behind, and listens. The
// lock is held until release is called, after the listener was closed, or the
// process ends. A bangerd that runs already is an api.CodeConflict error.
func Listen(layout paths.Layout) (l net.Listener, release func() error, err error) {
	if err := os.MkdirAll(layout.Runtime, 0o700); err != nil {
		return nil, nil, fmt.Errorf("create the runtime directory: %w", err)
	}
	// MkdirAll leaves an existing directory as it is.
	if err := os.Chmod(layout.Runtime, 0o700); err != nil {
		return nil, nil, fmt.Errorf("close the runtime directory to others: %w", err)
	}
	lock, err := takeLock(layout.DaemonLock())
	if err != nil {
		return nil, nil, err
	}
	l, err = listenUnix(layout.Socket())
	if err != nil {
		return nil, nil, errors.Join(err, lock.Close())
	}
	return l, lock.Close, nil
}

// takeLock locks path or says who has it. Closing the file unlocks.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the daemon's lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = api.Errorf(api.CodeConflict, "another bangerd runs already and holds %s", path).
			WithHint("run: banger daemon status")
	} else if err != nil {
		err = fmt.Errorf("lock %s: %w", path, err)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// listenUnix listens on path, which nobody else uses, with mode 0600. The
// socket is made under another name first, so that it is never reachable with
// a wider mode and never there without answering.
func listenUnix(path string) (net.Listener, error) {
	tmp := filepath.Join(filepath.Dir(path), ".new.sock")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove a stale socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l.SetUnlinkOnClose(false) // it would remove tmp
	if err = os.Chmod(tmp, 0o600); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("place the socket: %w", err), l.Close(), os.Remove(tmp))
	}
	return &socket{UnixListener: l, path: path}, nil
}

// socket is a listener that removes its path, which isn't the one it was bound
// to, when it is closed.
type socket struct {
	*net.UnixListener
	path string
}

// Close stops listening and removes the socket.
func (s *socket) Close() error {
	if err := s.UnixListener.Close(); err != nil {
		return err // closed before: the path may be a successor's
	}
	return os.Remove(s.path)
}

// Addr returns the path that clients use.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }
