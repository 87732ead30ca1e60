package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// header is the header of a query with these numbers of records.
func header(flags byte, counts ...uint16) []byte {
	b := []byte{0xab, 0xcd, flags, 0}
	for i := range 4 {
		n := uint16(0)
		if i < len(counts) {
			n = counts[i]
		}
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return b
}

func packed(t testing.TB, name string, qtype uint16, change func(*dns.Msg)) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	if change != nil {
		change(m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// malformed are messages that a guest can send, and the code of the reply; -1
// is no reply.
func malformed(t testing.TB) map[string]struct {
	message []byte
	rcode   int
} {
	t.Helper()
	web := packed(t, "web", dns.TypeA, nil)
	long := packed(t, "web", dns.TypeA, func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_PADDING{Padding: make([]byte, maxQuery)}}
	})
	type kind = struct {
		message []byte
		rcode   int
	}
	return map[string]kind{
		"a header alone":               {header(1, 1), dns.RcodeFormatError},
		"a header without a question":  {header(1, 0), dns.RcodeFormatError},
		"two questions":                {append(header(1, 2), append(web[12:], web[12:]...)...), dns.RcodeFormatError},
		"two questions and one":        {append(header(1, 2), web[12:]...), dns.RcodeFormatError},
		"a name alone":                 {append(header(1, 1), 3, 'w', 'e', 'b', 0), dns.RcodeFormatError},
		"a question without class":     {web[:len(web)-2], dns.RcodeFormatError},
		"half a class":                 {web[:len(web)-1], dns.RcodeFormatError},
		"half a name":                  {append(header(1, 1), 3, 'w'), dns.RcodeFormatError},
		"a name that points at itself": {append(header(1, 1), 0xc0, 12, 0, 1, 0, 1), dns.RcodeFormatError},
		"a name that points outside":   {append(header(1, 1), 0xff, 0xff, 0, 1, 0, 1), dns.RcodeFormatError},
		"counts of nothing":            {header(1, 65535, 65535, 65535, 65535), dns.RcodeFormatError},
		"an answer in a question":      {append(header(1, 1, 1), append(web[12:], web[12:]...)...), dns.RcodeFormatError},
		"records that aren't there":    {append(header(1, 1, 0, 0, 2), append(web[12:], 0, 0, 41, 1)...), dns.RcodeFormatError},
		"more than queries are long":   {long, dns.RcodeFormatError},
		"a dynamic update":             {header(5<<3, 1), dns.RcodeNotImplemented},
		"a notification":               {header(4<<3, 1), dns.RcodeNotImplemented},
		"an answer":                    {append(header(0x81, 1), web[12:]...), -1},
		"a byte":                       {[]byte{1}, -1},
		"less than a header":           {header(1, 1)[:11], -1},
		"what isn't DNS":               {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), dns.RcodeNotImplemented},
	}
}

// TestDNSMalformed sends what no resolver sends. A header that promises a
// question and ends there once ended bangerd.
func TestDNSMalformed(t *testing.T) {
	server := startDNS(t)
	for name, tt := range malformed(t) {
		t.Run(name, func(t *testing.T) {
			// Over UDP the next query's reply shows that there is none to this.
			conn, err := net.Dial("udp", server)
			must(t, err)
			defer conn.Close()
			_, err = conn.Write(tt.message)
			must(t, err)
			_, err = conn.Write(packed(t, "web", dns.TypeA, func(m *dns.Msg) { m.Id = 1 }))
			must(t, err)
			must(t, conn.SetReadDeadline(time.Now().Add(15*time.Second)))
			reply := make([]byte, 4096)
			n, err := conn.Read(reply)
			must(t, err)
			if tt.rcode >= 0 {
				checkRefusal(t, tt.message, reply[:n], tt.rcode)
				n, err = conn.Read(reply)
				must(t, err)
			}
			if n < headerSize || binary.BigEndian.Uint16(reply) != 1 {
				t.Errorf("got %x, want the reply to the second query", reply[:n])
			}

			tcp, err := net.Dial("tcp", server)
			must(t, err)
			defer tcp.Close()
			_, err = tcp.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(tt.message))), tt.message...))
			must(t, err)
			must(t, tcp.SetReadDeadline(time.Now().Add(15*time.Second)))
			got, err := readFramed(tcp, 4096)
			switch {
			case tt.rcode >= 0 && len(tt.message) <= maxQuery:
				must(t, err)
				checkRefusal(t, tt.message, got, tt.rcode)
			case err == nil:
				t.Errorf("by TCP: got %x, want the connection closed", got)
			}
		})
	}
}

func checkRefusal(t *testing.T, message, reply []byte, rcode int) {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(reply); err != nil || m.Rcode != rcode || !m.Response || m.Id != binary.BigEndian.Uint16(message) {
		t.Errorf("got %x (%v), want code %s", reply, err, dns.RcodeToString[rcode])
	}
}

// TestDNSPanicIsContained has bugs where names are looked up.
func TestDNSPanicIsContained(t *testing.T) {
	before := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(before) })
	web := netip.MustParseAddr("172.16.0.5")
	h := newDNSHandler(testConfig(), slog.New(slog.DiscardHandler), func(name string) (netip.Addr, bool) {
		if name == "bug" {
			panic("a bug")
		}
		return web, name == "web"
	}, func(netip.Addr) (string, bool) { return "", false })
	h.upstreams = func() []netip.AddrPort { panic("another bug") }
	server := serveDNS(t, h).String()
	for _, network := range []string{"udp", "tcp"} {
		for range 2 * laneForwards { // slots must come back
			for _, name := range []string{"bug", "other.example"} {
				conn, err := net.Dial(network, server)
				must(t, err)
				message := packed(t, name, dns.TypeA, nil)
				if network == "tcp" {
					message = append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
				}
				_, err = conn.Write(message)
				must(t, err)
				if network == "tcp" {
					must(t, conn.SetReadDeadline(time.Now().Add(15*time.Second)))
					if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
						t.Fatalf("by TCP: %v, want the connection closed", err)
					}
				}
				conn.Close()
			}
		}
		if got := summary(ask(t, network, server, "web", dns.TypeA)); got != "NOERROR 172.16.0.5" {
			t.Errorf("by %s: %s", network, got)
		}
	}
}

// startRawUpstream answers each message by what reply makes of it.
func startRawUpstream(t *testing.T, reply func(query []byte) [][]byte) netip.AddrPort {
	t.Helper()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { udp.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, m := range reply(buf[:n]) {
				_, _ = udp.WriteTo(m, from)
			}
		}
	}()
	return udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestDNSHostileUpstream gets replies that no server of good will sends.
func TestDNSHostileUpstream(t *testing.T) {
	good := startUpstream(t, func(_ bool, req *dns.Msg) *dns.Msg { return answerA(req, "203.0.113.1") })
	answer := func(q []byte, change func(b []byte) []byte) [][]byte {
		b := bytes.Clone(q)
		b[2] |= 0x80
		return [][]byte{change(b)}
	}
	replies := map[string]func(q []byte) [][]byte{
		"a byte":              func([]byte) [][]byte { return [][]byte{{1}} },
		"nothing in a packet": func([]byte) [][]byte { return [][]byte{{}} },
		"a header":            func(q []byte) [][]byte { return answer(q, func(b []byte) []byte { return b[:12] }) },
		"no question": func(q []byte) [][]byte {
			return answer(q, func(b []byte) []byte { b[5] = 0; return b[:12] })
		},
		"half a question": func(q []byte) [][]byte { return answer(q, func(b []byte) []byte { return b[:len(b)-3] }) },
		"a loop of names": func(q []byte) [][]byte {
			return answer(q, func(b []byte) []byte { return append(b[:12], 0xc0, 12, 0, 1, 0, 1) })
		},
		"the query itself": func(q []byte) [][]byte { return [][]byte{q} },
		"another id": func(q []byte) [][]byte {
			var all [][]byte
			for range 100 {
				all = append(all, answer(q, func(b []byte) []byte { b[0]++; return b })...)
			}
			return all
		},
		"another question": func(q []byte) [][]byte { return answer(q, func(b []byte) []byte { b[13] ^= 1; return b }) },
	}
	for name, reply := range replies {
		t.Run(name, func(t *testing.T) {
			server := startDNS(t, startRawUpstream(t, reply), good.addr)
			if got := summary(ask(t, "udp", server, "example.org", dns.TypeA)); got != "NOERROR 203.0.113.1" {
				t.Errorf("got %q, want the next server's answer", got)
			}
		})
	}
	t.Run("more than was asked for", func(t *testing.T) {
		server := startDNS(t, startRawUpstream(t, func(q []byte) [][]byte {
			return answer(q, func(b []byte) []byte { return append(b, make([]byte, 3000)...) })
		}))
		if reply := ask(t, "udp", server, "example.org", dns.TypeA); !reply.Truncated {
			t.Errorf("got %v, want it truncated", reply)
		}
	})
}

// from asks from an address of the loopback.
func from(t *testing.T, addr, server string) *dns.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(addr)}}
	conn, err := d.Dial("udp", server)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return &dns.Conn{Conn: conn}
}

// TestDNSSharesOfForwarding has a guest ask more of a silent upstream server
// than it may, and then another one.
func TestDNSSharesOfForwarding(t *testing.T) {
	var waiting, most atomic.Int64
	release := make(chan struct{})
	upstream := startUpstream(t, func(_ bool, req *dns.Msg) *dns.Msg {
		if strings.HasPrefix(req.Question[0].Name, "other") {
			return answerA(req, "203.0.113.1")
		}
		most.Store(max(most.Load(), waiting.Add(1)))
		<-release
		waiting.Add(-1)
		return answerA(req, "203.0.113.2")
	})
	cfg := testConfig()
	cfg.DNS = []netip.AddrPort{upstream.addr}
	h := newDNSHandler(cfg, slog.New(slog.DiscardHandler), func(string) (netip.Addr, bool) { return netip.Addr{}, false }, nil)
	// The refusals below wait for a slot one after the other.
	h.timeout, h.inAll, h.slotWait = time.Minute, time.Minute, time.Millisecond
	server := serveDNS(t, h).String()

	greedy := from(t, "127.0.0.5", server)
	for range 3 * laneForwards {
		must(t, greedy.WriteMsg(new(dns.Msg).SetQuestion("greedy.example.", dns.TypeA)))
	}
	// What is above the share is refused before anything is forwarded for it.
	must(t, greedy.SetReadDeadline(time.Now().Add(time.Minute)))
	for range 2 * laneForwards {
		reply, err := greedy.ReadMsg()
		must(t, err)
		if reply.Rcode != dns.RcodeServerFailure {
			t.Fatalf("got %v", reply)
		}
	}
	modest := from(t, "127.0.0.6", server)
	must(t, modest.SetDeadline(time.Now().Add(time.Minute)))
	must(t, modest.WriteMsg(new(dns.Msg).SetQuestion("other.example.", dns.TypeA)))
	reply, err := modest.ReadMsg()
	must(t, err)
	if got := summary(reply); got != "NOERROR 203.0.113.1" {
		t.Errorf("the other guest got %q", got)
	}
	if got := most.Load(); got > laneForwards {
		t.Errorf("%d queries were with the upstream server at once, want %d at most", got, laneForwards)
	}
	close(release)
}

// TestDNSSharesOfConnections has a guest open more connections than it may, and
// leave them idle; another one is served all the same.
func TestDNSSharesOfConnections(t *testing.T) {
	before := runtime.NumGoroutine() + 2*maxLanes
	server := startDNS(t)
	dial := func(addr string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}, Timeout: 15 * time.Second}
		return d.Dial("tcp", server)
	}
	for range laneConns {
		conn, err := dial("127.0.0.5")
		must(t, err)
		defer conn.Close()
		_, err = conn.Write([]byte{0, 40, 1}) // the rest never comes
		must(t, err)
	}
	// Some more are accepted by the kernel, and others hang there.
	for range 2 * acceptBacklog {
		go func() {
			if conn, err := dial("127.0.0.5"); err == nil {
				t.Cleanup(func() { conn.Close() })
			}
		}()
	}
	conn, err := dial("127.0.0.6")
	must(t, err)
	defer conn.Close()
	client := &dns.Conn{Conn: conn}
	must(t, client.SetDeadline(time.Now().Add(15*time.Second)))
	must(t, client.WriteMsg(new(dns.Msg).SetQuestion("web.banger.", dns.TypeA)))
	reply, err := client.ReadMsg()
	must(t, err)
	if got := summary(reply); got != "NOERROR 172.16.0.5" {
		t.Errorf("the other guest got %q", got)
	}
	// A goroutine and its context's for each connection; the dials above.
	if now := runtime.NumGoroutine(); now > before+2*(laneConns+1)+4*acceptBacklog {
		t.Errorf("%d goroutines, %d before", now, before)
	}
}

// A connection that stays silent, or stops in the middle of a query, is closed.
func TestDNSIdleConnections(t *testing.T) {
	h := newDNSHandler(testConfig(), slog.New(slog.DiscardHandler), func(string) (netip.Addr, bool) { return netip.Addr{}, false }, nil)
	h.idle = 100 * time.Millisecond
	server := serveDNS(t, h).String()
	for _, beginning := range [][]byte{{}, {0}, {0, 40, 1, 2}} {
		conn, err := net.Dial("tcp", server)
		must(t, err)
		defer conn.Close()
		_, err = conn.Write(beginning)
		must(t, err)
		must(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
			t.Errorf("after %x: %d bytes, %v; want the connection closed", beginning, n, err)
		}
	}
}

// TestDNSPace sends more queries than a guest may at once. What is above that
// takes its time.
func TestDNSPace(t *testing.T) {
	const above = 200
	server := startDNS(t)
	for _, network := range []string{"udp", "tcp"} {
		start := time.Now()
		var conn *dns.Conn
		for i := range queryBurst + above {
			if i%connQueries == 0 { // a connection has no more
				var err error
				conn, err = dns.Dial(network, server)
				must(t, err)
				defer conn.Close()
			}
			must(t, conn.WriteMsg(new(dns.Msg).SetQuestion("web.", dns.TypeA)))
			must(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
			_, err := conn.ReadMsg()
			must(t, err)
		}
		if took, least := time.Since(start), above*time.Second/queryRate/2; took < least {
			t.Errorf("by %s: %d queries in %v, want %v at least", network, queryBurst+above, took, least)
		}
	}
}

// TestDNSFlood has a VM send as much as it can. It must be alone with that.
func TestDNSFlood(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := newLab(t)
	upstream := netip.MustParseAddrPort("203.0.113.2:53")
	l.outside.do(func() error {
		// Silent for the flooder, so that its queries stay.
		udp, err := net.ListenPacket("udp4", upstream.String())
		if err != nil {
			return err
		}
		srv := &dns.Server{PacketConn: udp, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
			if !strings.HasPrefix(req.Question[0].Name, "flood") {
				_ = w.WriteMsg(answerA(req, "203.0.113.9"))
			}
		})}
		go func() { _ = srv.ActivateAndServe() }()
		t.Cleanup(func() { _ = srv.Shutdown() })
		return nil
	})
	l.n.wanted.DNS = []netip.AddrPort{upstream}
	web := netip.MustParseAddr(addrB)
	l.n.SetNames(func(name string) (netip.Addr, bool) { return web, name == "web" },
		func(addr netip.Addr) (string, bool) { return "web", addr == web })
	before := runtime.NumGoroutine() + 2*maxLanes
	must(t, l.n.bringUp(t.Context()))
	defer l.n.Close()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sent atomic.Int64
	flood := func(messages ...[]byte) {
		var conn net.Conn
		l.a.do(func() (err error) {
			conn, err = net.Dial("udp", "172.16.0.1:53")
			return err
		})
		defer conn.Close()
		for ctx.Err() == nil {
			for _, m := range messages {
				if _, err := conn.Write(m); err == nil {
					sent.Add(1)
				}
			}
		}
	}
	ptr := packed(t, "9.0.16.172.in-addr.arpa", dns.TypePTR, nil)
	go flood(ptr, header(1, 1), packed(t, "flood.example", dns.TypeA, nil))
	go flood(ptr, ptr, ptr)
	most := 0
	client := &dns.Client{Timeout: 15 * time.Second}
	for i := range 200 {
		question := new(dns.Msg).SetQuestion([]string{"web.banger.", "example.org."}[i%2], dns.TypeA)
		want := []string{"NOERROR " + addrB, "NOERROR 203.0.113.9"}[i%2]
		var reply *dns.Msg
		var err error
		l.b.do(func() error { reply, _, err = client.Exchange(question, "172.16.0.1:53"); return nil })
		if err != nil || summary(reply) != want {
			t.Fatalf("query %d, after %d of the flood: %v, %v", i, sent.Load(), reply, err)
		}
		most = max(most, runtime.NumGoroutine())
	}
	t.Logf("%d packets of the flood; %d goroutines at most, %d before", sent.Load(), most, before)
	// A goroutine and its context's for each forwarded query.
	if limit := before + 3*laneForwards + 20; most > limit {
		t.Errorf("%d goroutines, %d before", most, before)
	}
}
