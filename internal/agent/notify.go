package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
)

// notifications reads what systemd writes to its notify socket, sd_notify(3),
// for as long as the guest lives: systemd is PID 1, and would wait for ever for
// room in a socket that nobody reads. The supervisor does this, which has
// nothing else to do and is never restarted.
type notifications struct {
	booted chan struct{} // closed when systemd has said READY=1
	once   sync.Once
}

// readNotifications begins to read a socket, in the background.
func readNotifications(socket *os.File, log *slog.Logger) (*notifications, error) {
	conn, err := net.FilePacketConn(socket)
	_ = socket.Close() // conn is a copy
	if err != nil {
		return nil, fmt.Errorf("open the notify socket: %w", err)
	}
	n := &notifications{booted: make(chan struct{})}
	go func() {
		// A socket that is closed keeps nobody waiting.
		defer conn.Close()
		log.Error("read the notify socket", "err", n.read(conn))
	}()
	return n, nil
}

func (n *notifications) read(conn net.PacketConn) error {
	buf := make([]byte, 4096)
	for {
		size, _, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		for line := range bytes.Lines(buf[:size]) {
			if string(bytes.TrimSpace(line)) == "READY=1" {
				n.once.Do(func() { close(n.booted) })
			}
		}
	}
}

// tell closes the end of a pipe when the system has booted, or at the end of
// stop.
func (n *notifications) tell(end *os.File, stop <-chan struct{}) {
	select {
	case <-n.booted:
	case <-stop:
	}
	_ = end.Close()
}
