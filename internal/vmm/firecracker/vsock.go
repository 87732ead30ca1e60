package firecracker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"banger/internal/guard"
	"banger/internal/guest"
	"banger/internal/guest/halfclose"
	"banger/internal/vmm"
)

const (
	// vsockAttempt bounds one try to reach the guest. Before the guest's driver
	// is up, Firecracker accepts connections and leaves them waiting; they are
	// answered once it is, so a long wait is the quickest way to a booting
	// guest.
	vsockAttempt = 10 * time.Second
	// Between tries: a guest whose agent doesn't listen yet refuses at once.
	vsockFirstPause = 5 * time.Millisecond
	vsockLastPause  = 200 * time.Millisecond
)

// dialVsock connects to a port of the guest behind the vsock socket in dir. It
// tries until ctx ends, or until gone is closed, which gives vmm.ErrGone. The
// guest has to wrap its end by package halfclose.
func dialVsock(ctx context.Context, dir string, port uint32, gone <-chan struct{}) (guest.Conn, error) {
	pause := vsockFirstPause
	for {
		conn, err := tryVsock(ctx, dir, port)
		if err == nil {
			return halfclose.New(conn), nil
		}
		select {
		case <-gone:
			return nil, vmm.ErrGone
		default:
		}
		select {
		case <-gone:
			return nil, vmm.ErrGone
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to port %d of the guest: %w (%w)", port, context.Cause(ctx), err)
		case <-time.After(pause):
		}
		pause = min(2*pause, vsockLastPause)
	}
}

// tryVsock makes one attempt, by the protocol of "Host-Initiated Connections"
// in Firecracker's docs/vsock.md.
func tryVsock(ctx context.Context, dir string, port uint32) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, vsockAttempt)
	defer cancel()
	conn, err := dialUnix(ctx, dir, vsockSocket)
	if err != nil {
		return nil, err
	}
	// A deadline in the past makes a blocked read return.
	stop := context.AfterFunc(ctx, guard.Func("end a handshake", func() { _ = conn.SetDeadline(time.Unix(1, 0)) }))
	err = handshake(conn, port)
	if !stop() {
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// maxAnswer is more than the longest answer, "OK 4294967295\n", has.
const maxAnswer = 32

// handshake asks for a port and reads the answer. It reads single bytes, since
// the guest's first ones may follow at once. A port that nobody listens on is
// answered by closing the connection.
func handshake(conn net.Conn, port uint32) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %d\n", port); err != nil {
		return err
	}
	var answer [maxAnswer]byte
	for n := range answer {
		if _, err := conn.Read(answer[n : n+1]); err != nil {
			return fmt.Errorf("the guest doesn't answer: %w", err)
		}
		if answer[n] != '\n' {
			continue
		}
		if line := string(answer[:n]); !strings.HasPrefix(line, "OK ") {
			return fmt.Errorf("read Firecracker's answer: %q isn't one", line)
		}
		return nil
	}
	return fmt.Errorf("read Firecracker's answer: %q has no end", answer)
}
