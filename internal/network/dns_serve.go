package network

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"banger/internal/guard"
)

const (
	// maxQuery bounds a query, in bytes: the largest that resolvers send.
	maxQuery = 1232
	// slotWait is how long a query may wait until its guest has fewer with the
	// upstream servers.
	slotWait = 100 * time.Millisecond
	// idleTimeout bounds the wait for a whole query on a TCP connection, and
	// writeTimeout that for the guest to take the reply.
	idleTimeout  = 8 * time.Second
	writeTimeout = 2 * time.Second
	// connQueries bounds the queries of one TCP connection.
	connQueries = 128
	// errorPause keeps a socket that fails again and again from being a loop.
	errorPause = 100 * time.Millisecond
)

// serve answers until ctx ends, and then closes the lanes' sockets.
func (h *dnsHandler) serve(ctx context.Context, lanes []*lane) {
	// What already waits for an upstream server ends with ctx as well.
	stop := context.AfterFunc(ctx, guard.Func("end a DNS connection", func() { _ = closeLanes(lanes) }))
	defer stop()
	for _, l := range lanes {
		h.running.Go(guard.Func("serve DNS by UDP", func() { h.serveUDP(ctx, l) }))
		h.running.Go(guard.Func("serve DNS by TCP", func() { h.serveTCP(ctx, l) }))
	}
	h.running.Wait()
}

func (h *dnsHandler) serveUDP(ctx context.Context, l *lane) {
	packet := make([]byte, maxQuery+1) // one more shows that there was more
	for {
		n, from, err := l.udp.ReadFromUDPAddrPort(packet)
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			h.log.DebugContext(ctx, "read a DNS query", "err", err)
			time.Sleep(errorPause)
		default:
			// It is logged; the next packet is another matter.
			_ = guard.Run("answer a DNS packet", func() error {
				h.packet(ctx, l, packet[:n], from)
				return nil
			})
		}
		l.pace.wait()
	}
}

// packet answers a query that came by UDP. What an upstream server has to
// answer is left to a goroutine.
func (h *dnsHandler) packet(ctx context.Context, l *lane, packet []byte, from netip.AddrPort) {
	reply, q := h.answer(packet, true)
	if q != nil && !h.takeSlot(ctx, l.forwards) {
		reply, q = q.failure(), nil
	}
	if q == nil {
		h.send(ctx, l, reply, from)
		return
	}
	h.running.Go(guard.Func("forward a DNS query", func() {
		defer func() { <-l.forwards }()
		h.send(ctx, l, h.forward(ctx, q), from)
	}))
}

func (h *dnsHandler) send(ctx context.Context, l *lane, reply []byte, to netip.AddrPort) {
	if reply == nil {
		return
	}
	if _, err := l.udp.WriteToUDPAddrPort(reply, to); err != nil {
		h.log.DebugContext(ctx, "DNS reply was not sent", "to", to, "err", err)
	}
}

// takeSlot takes a slot unless none gets free soon.
func (h *dnsHandler) takeSlot(ctx context.Context, slots chan<- struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(h.slotWait)
	defer timer.Stop()
	select {
	case slots <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (h *dnsHandler) serveTCP(ctx context.Context, l *lane) {
	for {
		// As long as the guest has all the connections that it may have, others
		// wait in the kernel.
		select {
		case l.conns <- struct{}{}:
		case <-ctx.Done():
			return
		}
		conn, err := l.tcp.AcceptTCP()
		if err == nil {
			h.running.Go(guard.Func("serve a DNS connection", func() {
				defer func() { <-l.conns }()
				h.serveConn(ctx, l, conn)
			}))
			l.pace.wait()
			continue
		}
		<-l.conns
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		h.log.DebugContext(ctx, "accept a DNS connection", "err", err)
		time.Sleep(errorPause)
	}
}

// serveConn answers queries of a TCP connection, one after the other (RFC 7766).
func (h *dnsHandler) serveConn(ctx context.Context, l *lane, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, guard.Func("end a DNS connection", func() { _ = conn.Close() }))()
	for range connQueries {
		if err := h.serveOne(ctx, l, conn); err != nil {
			return // the guest left, was silent, or sent what isn't DNS
		}
		l.pace.wait()
	}
}

func (h *dnsHandler) serveOne(ctx context.Context, l *lane, conn net.Conn) error {
	if err := conn.SetReadDeadline(time.Now().Add(h.idle)); err != nil {
		return err
	}
	query, err := readFramed(conn, maxQuery)
	if err != nil {
		return err
	}
	reply, q := h.answer(query, false)
	if q != nil {
		reply = h.forwardAtOnce(ctx, l, q)
	}
	if reply == nil {
		return errors.New("not a query")
	}
	if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
	return err
}

// forwardAtOnce forwards a query if its guest may have one more upstream.
func (h *dnsHandler) forwardAtOnce(ctx context.Context, l *lane, q *query) []byte {
	if !h.takeSlot(ctx, l.forwards) {
		return q.failure()
	}
	defer func() { <-l.forwards }()
	return h.forward(ctx, q)
}

// readFramed reads a message with the length before it (RFC 1035, 4.2.2).
func readFramed(r io.Reader, limit int) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > limit {
		return nil, errors.New("the message is too long")
	}
	message := make([]byte, n)
	_, err := io.ReadFull(r, message)
	return message, err
}
