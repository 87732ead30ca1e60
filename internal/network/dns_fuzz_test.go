package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// bytesConn is a TCP connection whose other end sends in and keeps out.
type bytesConn struct {
	net.Conn // nil: nothing else is used
	in       *bytes.Reader
	out      bytes.Buffer
}

func (c *bytesConn) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *bytesConn) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *bytesConn) Close() error                     { return nil }
func (c *bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (c *bytesConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzDNS gives the handler what a guest can send, as a packet and as what comes
// on a connection, and takes it for what an upstream server can reply as well.
func FuzzDNS(f *testing.F) {
	for _, m := range malformed(f) {
		f.Add(m.message)
	}
	for _, seed := range [][]byte{
		packed(f, "web", dns.TypeA, nil),
		packed(f, "5.0.16.172.in-addr.arpa", dns.TypePTR, nil),
		packed(f, "other.banger", dns.TypeANY, func(m *dns.Msg) { m.SetEdns0(65535, true) }),
		packed(f, "example.org", dns.TypeAAAA, func(m *dns.Msg) { m.SetTsig("key.", dns.HmacSHA256, 300, 1) }),
		packed(f, "example.org", dns.TypeA, func(m *dns.Msg) { m.Response = true }),
	} {
		f.Add(seed)
		f.Add(append(binary.BigEndian.AppendUint16(nil, uint16(len(seed))), seed...))
	}
	web := netip.MustParseAddr("172.16.0.5")
	h := newDNSHandler(testConfig(), slog.New(slog.DiscardHandler),
		func(name string) (netip.Addr, bool) { return web, name == "web" },
		func(addr netip.Addr) (string, bool) { return "web", addr == web })
	h.upstreams = func() []netip.AddrPort { return nil }
	upstream := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)

	f.Fuzz(func(t *testing.T, message []byte) {
		reply, q := h.answer(message, true)
		if q != nil {
			reply = q.failure()
			if packed, err := q.upstream().Pack(); err != nil || len(packed) > maxUDP {
				t.Errorf("%x can't be forwarded: %d bytes, %v", message, len(packed), err)
			}
		}
		if reply != nil {
			checkReplyTo(t, message, reply, maxUDP)
		}

		conn := &bytesConn{in: bytes.NewReader(message)}
		h.serveConn(t.Context(), &lane{forwards: make(chan struct{}, 1)}, conn)
		for in := bytes.NewReader(message); ; {
			reply, err := readFramed(&conn.out, dns.MaxMsgSize)
			if errors.Is(err, io.EOF) {
				break
			}
			query, _ := readFramed(in, maxQuery)
			checkReplyTo(t, query, reply, dns.MaxMsgSize)
		}

		if len(message) >= headerSize { // as ask has it
			upstream.Id = binary.BigEndian.Uint16(message)
			_ = checkReply(upstream, message)
		}
	})
}

func checkReplyTo(t *testing.T, query, reply []byte, limit int) {
	t.Helper()
	var m dns.Msg
	err := m.Unpack(reply)
	if err != nil || !m.Response || len(reply) > limit || !bytes.Equal(query[:2], reply[:2]) {
		t.Errorf("%x is answered by %x (%v)", query, reply, err)
	}
}
