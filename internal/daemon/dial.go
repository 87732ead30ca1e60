package daemon

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/guard"
	"banger/internal/guest"
)

// dial answers api.DialPath: it connects to the guest, switches protocols and
// carries bytes both ways until both sides have ended.
func (s *Server) dial(w http.ResponseWriter, r *http.Request) error {
	port, err := strconv.ParseUint(r.PathValue("port"), 10, 32)
	if err != nil {
		return api.Errorf(api.CodeInvalid, "%q is not a port number", r.PathValue("port"))
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), api.UpgradeProtocol) {
		return api.Errorf(api.CodeInvalid, "this call needs the header Upgrade: %s", api.UpgradeProtocol)
	}
	inside, err := s.vms.Dial(r.Context(), r.PathValue("vm"), uint32(port))
	if err != nil {
		return err
	}
	defer inside.Close()
	outside, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("take over the connection: %w", err)
	}
	s.raw.Add(1)
	defer s.raw.Done()
	defer outside.Close()
	if err := s.carry(r.Context(), outside, buffered.Reader, inside); err != nil {
		s.log.Debug("guest connection ended", "vm", r.PathValue("vm"), "port", port, "err", err)
	}
	return nil
}

// carry says 101 and then joins the connections. The reader holds what the
// client has sent along with its request.
func (s *Server) carry(ctx context.Context, outside net.Conn, buffered *bufio.Reader, inside guest.Conn) error {
	client, ok := outside.(guest.Conn) // of a Unix socket
	if !ok {
		return fmt.Errorf("a %T can't be closed half-way", outside)
	}
	// The HTTP server's deadlines are not for a session of hours.
	if err := client.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("clear deadline: %w", err)
	}
	if _, err := fmt.Fprintf(client, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s: %s\r\n\r\n",
		api.UpgradeProtocol, api.VersionHeader, s.version); err != nil {
		return fmt.Errorf("answer 101: %w", err)
	}
	early, err := buffered.Peek(buffered.Buffered())
	if err != nil {
		return fmt.Errorf("read ahead: %w", err)
	}
	if _, err := inside.Write(early); err != nil {
		return fmt.Errorf("write to the guest: %w", err)
	}
	return join(ctx, client, inside)
}

// join copies both ways until both directions have ended, one fails, or ctx
// ends. The end of one direction is passed on by CloseWrite, so that a program
// which reads all of its input before it answers works.
func join(ctx context.Context, client, inside guest.Conn) error {
	stop := context.AfterFunc(ctx, guard.Func("end a connection to a guest", func() {
		client.Close()
		inside.Close()
	}))
	defer stop()
	ended := guard.Start("carry to a guest", func() error { return pipe(inside, client) })
	other := guard.Start("carry from a guest", func() error { return pipe(client, inside) })
	var first error
	select {
	case first = <-ended:
	case first = <-other:
		other = ended
	}
	if first != nil {
		// One direction is broken: the other has nobody to talk to.
		client.Close()
		inside.Close()
	}
	second := <-other
	if first != nil {
		return first
	}
	return second
}

// pipe copies until src ends and then says so to dst.
func pipe(dst, src guest.Conn) error {
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	return dst.CloseWrite()
}
