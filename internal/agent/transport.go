package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"

	"banger/internal/guest"
	"banger/internal/guest/halfclose"
	"banger/internal/guest/serialmux"
)

// The probing of devices goes on for a while after their modules are loaded.
const (
	transportWait = time.Minute
	transportPoll = 20 * time.Millisecond
)

// transports are the ways to the host: vsock, a serial line, or both.
type transports struct {
	log       *slog.Logger
	vsock     bool
	serial    *serialmux.Guest // nil if there is none
	listeners []net.Listener
}

// openTransports waits until there is a way to the host and opens it.
func openTransports(log *slog.Logger) (*transports, error) {
	for deadline := time.Now().Add(transportWait); ; time.Sleep(transportPoll) {
		t := &transports{log: log, vsock: hasVsock()}
		port, err := findSerialPort("/sys/class/virtio-ports", "/dev")
		if err != nil {
			return nil, err
		}
		if port != "" {
			line, err := openSerial(port)
			if err != nil {
				return nil, err
			}
			t.serial = serialmux.Listen(line, log)
		}
		if t.vsock || t.serial != nil {
			return t, nil
		}
		if time.Now().After(deadline) {
			return nil, errors.New("open a way to the host: there is neither vsock nor a virtio-serial port named " + guest.SerialPortName)
		}
	}
}

// hasVsock tells whether a vsock device gives this guest an address.
func hasVsock() bool {
	id, err := vsock.ContextID()
	return err == nil && id > vsock.Host && id != unix.VMADDR_CID_ANY
}

// findSerialPort returns the device of banger's port, or "" without one.
func findSerialPort(class, dev string) (string, error) {
	names, err := filepath.Glob(filepath.Join(class, "*", "name"))
	if err != nil {
		return "", err
	}
	for _, path := range names {
		name, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(name)) == guest.SerialPortName {
			return filepath.Join(dev, filepath.Base(filepath.Dir(path))), nil
		}
	}
	return "", nil
}

// listen opens a listener for a port on every transport.
func (t *transports) listen(port uint32) ([]net.Listener, error) {
	var all []net.Listener
	if t.serial != nil {
		l, err := t.serial.Port(port)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	if t.vsock {
		l, err := vsock.Listen(port, nil)
		if err != nil {
			return nil, fmt.Errorf("listen on vsock port %d: %w", port, err)
		}
		all = append(all, halfCloser{l})
	}
	t.listeners = append(t.listeners, all...)
	return all, nil
}

// halfCloser wraps connections that can't be half-closed by themselves: those
// by Firecracker's vsock. The host's end is wrapped as well.
type halfCloser struct{ net.Listener }

func (l halfCloser) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return halfclose.New(conn), nil
}

// serve calls handle in a goroutine for every connection to a port.
func (t *transports) serve(port uint32, handle func(net.Conn)) error {
	all, err := t.listen(port)
	if err != nil {
		return err
	}
	for _, l := range all {
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.log.Error("accept", "port", port, "err", err)
					}
					return
				}
				go handle(conn)
			}
		}()
	}
	return nil
}

// complete says that all listeners are there.
func (t *transports) complete() {
	if t.serial != nil {
		t.serial.Refuse()
	}
}

// stopListening accepts nothing more. Connections that come now find their
// listener in the worker: on the serial line they wait for it, on vsock the
// host tries again.
func (t *transports) stopListening() {
	for _, l := range t.listeners {
		_ = l.Close()
	}
}

// close lets go of the transports, for another process to open them.
func (t *transports) close() {
	t.stopListening()
	if t.serial != nil {
		_ = t.serial.Close()
	}
}
