package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// serialPort is a virtio-serial port. While the host's side is closed the
// kernel lets reads return nothing at once and makes writes wait; poll(2)
// reports POLLHUP.
type serialPort struct {
	*os.File
	raw  syscall.RawConn
	gone bool // the host's side was closed at the last Read
}

func openSerial(path string) (*serialPort, error) {
	// Non-blocking, so that the runtime's poller waits for it and deadlines
	// work.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open serial port: %w", err)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open serial port: %w", err)
	}
	return &serialPort{File: f, raw: raw}, nil
}

// Read returns io.EOF once when the host goes away; the next Read waits until
// it is back. Only one Read may be under way.
func (p *serialPort) Read(b []byte) (int, error) {
	if p.gone {
		if err := p.waitForHost(); err != nil {
			return 0, err
		}
	}
	n, err := p.File.Read(b)
	p.gone = n == 0 && errors.Is(err, io.EOF)
	return n, err
}

// waitForHost waits for the kernel's event that the host has opened its side.
// The event makes the port writable. The runtime's poller is edge-triggered,
// so that the lasting POLLHUP costs nothing.
func (p *serialPort) waitForHost() error {
	return p.raw.Write(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		_, err := unix.Poll(fds, 0)
		return err != nil || fds[0].Revents&unix.POLLHUP == 0
	})
}
