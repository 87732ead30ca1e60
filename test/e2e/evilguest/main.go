// Command evilguest is what a guest can become: it takes the serial port from
// banger's agent, which it stops, and says to the host whatever may hurt. It
// goes on for the seconds of its argument, and then lets the agent go on.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "evilguest:", err)
		os.Exit(1)
	}
}

func run() error {
	seconds, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	time.Sleep(time.Second) // until whoever started this has gone
	pid, theirs, err := findPort()
	if err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("open the agent: %w", err)
	}
	fd, err := unix.PidfdGetfd(pidfd, theirs, 0)
	if err != nil {
		return fmt.Errorf("take the agent's port: %w", err)
	}
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		return fmt.Errorf("stop the agent: %w", err)
	}
	defer func() { _ = unix.Kill(pid, unix.SIGCONT) }()
	p := &port{fd: fd, until: time.Now().Add(time.Duration(seconds) * time.Second)}
	p.write(marker("0000000000000000")) // ends the agent's session
	for i := 0; p.meet(); i++ {
		attacks[i%len(attacks)](p)
	}
	return nil
}

// findPort returns the process that has the serial port open, and its
// descriptor of it.
func findPort() (pid, fd int, err error) {
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, 0, err
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || !strings.HasPrefix(target, "/dev/vport") {
			continue
		}
		_, err := fmt.Sscanf(link, "/proc/%d/fd/%d", &pid, &fd)
		return pid, fd, err
	}
	return 0, 0, fmt.Errorf("no process has a serial port open")
}

func marker(nonce string) []byte { return []byte("\x10\x01" + nonce) }

// port is the serial port, for as long as the attack goes on.
type port struct {
	fd    int
	until time.Time
}

// ready waits until the port can be read or written, a moment at most.
func (p *port) ready(events int16) bool {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: events}}
	n, err := unix.Poll(fds, 100)
	return err == nil && n > 0 && fds[0].Revents&unix.POLLHUP == 0 && time.Now().Before(p.until)
}

// write tells whether the host has taken it all.
func (p *port) write(b []byte) bool {
	for len(b) > 0 {
		n, err := unix.Write(p.fd, b)
		if n > 0 {
			b = b[n:]
			continue
		}
		if err != unix.EAGAIN || !p.ready(unix.POLLOUT) {
			return false
		}
	}
	return time.Now().Before(p.until)
}

// meet begins a session: it answers the host's next marker.
func (p *port) meet() bool {
	var seen []byte
	buf := make([]byte, 4096)
	for time.Now().Before(p.until) {
		n, _ := unix.Read(p.fd, buf)
		if n <= 0 {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		seen = append(seen, buf[:n]...)
		if i := bytes.LastIndex(seen, []byte("\x10\x01")); i >= 0 && len(seen) >= i+18 {
			return p.write(marker(string(seen[i+2 : i+18])))
		}
	}
	return false
}

// frame sends a frame of yamux's; length may be a lie.
func (p *port) frame(kind byte, flags uint16, stream, length uint32, body []byte) bool {
	h := []byte{0, kind}
	h = binary.BigEndian.AppendUint16(h, flags)
	h = binary.BigEndian.AppendUint32(h, stream)
	h = binary.BigEndian.AppendUint32(h, length)
	return p.write(bytes.ReplaceAll(append(h, body...), []byte{0x10}, []byte{0x10, 0}))
}

const (
	data, ping = 0, 2
	syn        = 1
)

var body = bytes.Repeat([]byte("x"), 64<<10)

// attacks are what the sessions consist of.
var attacks = []func(*port){
	func(p *port) { // streams that nobody asked for, and their first windows
		for i := range uint32(400) {
			for part := range 4 {
				flags := uint16(0)
				if part == 0 {
					flags = syn
				}
				if !p.frame(data, flags, 2+2*i, uint32(len(body)), body) {
					return
				}
			}
		}
	},
	func(p *port) { // pings
		for i := range uint32(100_000) {
			if !p.frame(ping, syn, 0, i, nil) {
				return
			}
		}
	},
	func(p *port) { p.frame(data, 0, 1, 1<<31, body) }, // a frame without an end
	func(p *port) { // no frames at all
		for p.write(body) {
		}
	},
	func(p *port) { p.write(marker("0000000000000000")) }, // the session is over at once
}
