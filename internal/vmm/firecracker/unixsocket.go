package firecracker

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The sockets that a Firecracker makes in its working directory.
const (
	apiSocket   = "api.sock"
	vsockSocket = "v.sock"
)

// dialUnix connects to a socket in dir, by way of an open descriptor: paths in
// a jail are longer than a socket's address has room for, and what is in a
// jail may have been put there by a guest that broke out of its Firecracker,
// so that links aren't followed.
func dialUnix(ctx context.Context, dir, name string) (*net.UnixConn, error) {
	path := filepath.Join(dir, name)
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("find socket %s: %w", path, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, fmt.Errorf("find socket %s: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("find socket %s: it is no socket", path)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return conn.(*net.UnixConn), nil
}
