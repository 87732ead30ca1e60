package rootless

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guard"
	"banger/internal/paths"
)

// Dial connects to a TCP port of the loopback of its network namespace.
type Dial func(ctx context.Context, port uint16) (*net.TCPConn, error)

// hostDialTimeout bounds the whole of a request to the keeper.
const hostDialTimeout = 15 * time.Second

// maxReason is how much the keeper says of why there is no connection, in
// bytes.
const maxReason = 1 << 10

// DialHost connects, from inside, to a TCP port of the host's loopback. The
// keeper makes the connection, in the host's network namespace, and hands over
// its descriptor.
func DialHost(ctx context.Context, layout paths.Layout, port uint16) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, hostDialTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", layout.NamespaceHostDial())
	if err != nil {
		return nil, fmt.Errorf("ask the keeper of the namespaces for a connection to the host: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, guard.Func("give up a connection to the host", func() { _ = conn.Close() }))
	defer stop()
	if _, err := conn.Write(binary.BigEndian.AppendUint16(nil, port)); err != nil {
		return nil, fmt.Errorf("ask the keeper of the namespaces for a connection to the host: %w", err)
	}
	text, oob := make([]byte, maxReason), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(text, oob)
	if err != nil {
		return nil, fmt.Errorf("wait for a connection to the host: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, errors.New(string(text[:n])) // why there is none
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("take a connection to the host: %d descriptors, %w", len(fds), err)
	}
	f := os.NewFile(uintptr(fds[0]), "a port of the host")
	defer f.Close()
	made, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("take a connection to the host: %w", err)
	}
	tcp, ok := made.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("take a connection to the host: it is a %T", made), made.Close())
	}
	return tcp, nil
}

// serveHostDial makes connections for DialHost until ctx ends. Whoever can open
// the socket is the user, who can have them without.
func serveHostDial(ctx context.Context, layout paths.Layout, dial Dial) error {
	path := layout.NamespaceHostDial()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make way for connections to the host: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("listen for connections to the host: %w", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // the next keeper's may be there by then
	context.AfterFunc(ctx, guard.Func("end connections to the host", func() { _ = l.Close() }))
	guard.Go("connect to the host", func() {
		for ctx.Err() == nil {
			conn, err := l.Accept()
			if err != nil { // too many files are open, say
				sleep(ctx, firstRetry, nil)
				continue
			}
			guard.Go("connect to the host", func() {
				defer conn.Close()
				answerHostDial(ctx, conn.(*net.UnixConn), dial)
			})
		}
	})
	return nil
}

// answerHostDial answers one request. An answer that can't be sent has nobody
// to read it.
func answerHostDial(ctx context.Context, conn *net.UnixConn, dial Dial) {
	ctx, cancel := context.WithTimeout(ctx, hostDialTimeout)
	defer cancel()
	_ = conn.SetDeadline(time.Now().Add(hostDialTimeout))
	var port [2]byte
	if _, err := io.ReadFull(conn, port[:]); err != nil {
		return
	}
	host, err := dial(ctx, binary.BigEndian.Uint16(port[:]))
	if err != nil {
		reason := err.Error()
		_, _ = conn.Write([]byte(reason[:min(len(reason), maxReason)]))
		return
	}
	defer host.Close()
	raw, err := host.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _, _, _ = conn.WriteMsgUnix([]byte{0}, unix.UnixRights(int(fd)), nil) })
}
