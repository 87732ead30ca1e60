package daemontest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/guest"
)

// Echo sends back what it receives, until the end, and closes the connection.
func Echo(conn net.Conn, _ uint32) {
	defer conn.Close()
	_, _ = io.Copy(conn, conn)
}

// socketPair returns two connected unix sockets: connections that, unlike
// net.Pipe, have buffers and can be closed half-way.
func socketPair() (a, b guest.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	a, errA := connOf(fds[0])
	b, errB := connOf(fds[1])
	return a, b, errors.Join(errA, errB)
}

func connOf(fd int) (guest.Conn, error) {
	f := os.NewFile(uintptr(fd), "guest")
	defer f.Close() // FileConn duplicates it
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// Hosts is a daemon.Hosts that always answers the same.
type Hosts struct{}

// Problems returns one.
func (Hosts) Problems() []string { return []string{"the moon is full"} }

// Host returns a host without KVM.
func (Hosts) Host(context.Context) (api.Host, error) {
	return api.Host{
		Driver: "qemu",
		Accel:  "tcg",
		Why:    "KVM can't run a stock kernel here",
		KVM:    api.KVMProbe{Detail: "no answer within 10s", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
	}, nil
}
