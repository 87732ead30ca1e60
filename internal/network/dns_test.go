package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// fakeUpstream answers every A question with addr, by UDP and TCP.
type fakeUpstream struct {
	addr    netip.AddrPort
	queries atomic.Int64
	reply   func(tcp bool, req *dns.Msg) *dns.Msg // nil: no answer
}

func startUpstream(t *testing.T, reply func(tcp bool, req *dns.Msg) *dns.Msg) *fakeUpstream {
	t.Helper()
	u := &fakeUpstream{reply: reply}
	udp, tcp := listenBoth(t)
	u.addr = udp.LocalAddr().(*net.UDPAddr).AddrPort()
	handle := func(w dns.ResponseWriter, req *dns.Msg) {
		u.queries.Add(1)
		if m := u.reply(w.LocalAddr().Network() == "tcp", req); m != nil {
			_ = w.WriteMsg(m)
		}
	}
	for _, srv := range []*dns.Server{{PacketConn: udp}, {Listener: tcp}} {
		srv.Handler = dns.HandlerFunc(handle)
		started, ended := make(chan struct{}), make(chan error, 1)
		srv.NotifyStartedFunc = func() { close(started) }
		go func() { ended <- srv.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := errors.Join(srv.Shutdown(), <-ended); err != nil {
				t.Error(err)
			}
		})
	}
	return u
}

// listenBoth takes a port of the loopback that is free for UDP and TCP.
func listenBoth(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for {
		udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp4", udp.LocalAddr().String())
		if err == nil {
			return udp, tcp
		}
		_ = udp.Close()
		if !errors.Is(err, unix.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}

func answerA(req *dns.Msg, addrs ...string) *dns.Msg {
	m := new(dns.Msg).SetReply(req)
	for _, a := range addrs {
		rr, err := dns.NewRR(req.Question[0].Name + " 60 IN A " + a)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

// startDNS serves a VM "web" at 172.16.0.5 and forwards to the servers.
func startDNS(t *testing.T, servers ...netip.AddrPort) string {
	t.Helper()
	cfg := testConfig()
	cfg.DNS = servers
	web := netip.MustParseAddr("172.16.0.5")
	h := newDNSHandler(cfg, slog.New(slog.DiscardHandler),
		func(name string) (netip.Addr, bool) { return web, name == "web" },
		func(addr netip.Addr) (string, bool) { return "web", addr == web })
	h.timeout = 300 * time.Millisecond
	if len(servers) == 0 {
		h.upstreams = func() []netip.AddrPort { return nil }
	}
	return serveDNS(t, h).String()
}

// serveDNS runs a handler on a port of the loopback.
func serveDNS(t *testing.T, h *dnsHandler) netip.AddrPort {
	t.Helper()
	var addr netip.AddrPort
	var lanes []*lane
	for lanes == nil {
		// The port must be free for both UDP and TCP.
		udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr = udp.LocalAddr().(*net.UDPAddr).AddrPort()
		_ = udp.Close()
		if lanes, err = listenDNS(t.Context(), addr); err != nil && !errors.Is(err, unix.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.serve(ctx, lanes)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return addr
}

func ask(t *testing.T, network, server, name string, qtype uint16) *dns.Msg {
	t.Helper()
	client := &dns.Client{Net: network, Timeout: 5 * time.Second}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype), server)
	if err != nil {
		t.Fatalf("ask for %s: %v", name, err)
	}
	return reply
}

// summary is "RCODE value value…".
func summary(m *dns.Msg) string {
	words := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		words = append(words, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(words, " ")
}

func TestDNSAnswers(t *testing.T) {
	defer goleak.VerifyNone(t)
	// The cleanups of the servers must come before the check for leaks.
	t.Run("serve", func(t *testing.T) {
		up := startUpstream(t, func(_ bool, req *dns.Msg) *dns.Msg { return answerA(req, "203.0.113.9") })
		server := startDNS(t, up.addr)
		tests := []struct {
			name  string
			qtype uint16
			want  string
			local bool // the upstream must not see it
		}{
			{"web", dns.TypeA, "NOERROR 172.16.0.5", true},
			{"WEB.Banger", dns.TypeA, "NOERROR 172.16.0.5", true},
			{"web.banger", dns.TypeAAAA, "NOERROR", true},
			{"web.banger", dns.TypeMX, "NOERROR", true},
			{"web", dns.TypeAAAA, "NOERROR", true},
			{"host.banger", dns.TypeA, "NOERROR 172.16.0.1", true},
			{"host.banger.internal", dns.TypeA, "NOERROR 172.16.0.1", true},
			{"HOST.banger.internal", dns.TypeAAAA, "NOERROR", true},
			{"other.banger", dns.TypeA, "NXDOMAIN", true},
			{"www.web.banger", dns.TypeA, "NXDOMAIN", true},
			{"banger", dns.TypeSOA, "NOERROR", true},
			{"5.0.16.172.in-addr.arpa", dns.TypePTR, "NOERROR web.banger.", true},
			{"1.0.16.172.in-addr.arpa", dns.TypePTR, "NOERROR host.banger.", true},
			{"6.0.16.172.in-addr.arpa", dns.TypePTR, "NXDOMAIN", true},
			{"web.example.org", dns.TypeA, "NOERROR 203.0.113.9", false},
			{"other", dns.TypeA, "NOERROR 203.0.113.9", false},
			{"5.1.16.172.in-addr.arpa", dns.TypeA, "NOERROR 203.0.113.9", false},
			{"xbanger", dns.TypeA, "NOERROR 203.0.113.9", false},
		}
		for _, network := range []string{"udp", "tcp"} {
			for _, tt := range tests {
				t.Run(fmt.Sprintf("%s/%s/%s", network, tt.name, dns.TypeToString[tt.qtype]), func(t *testing.T) {
					before := up.queries.Load()
					if got := summary(ask(t, network, server, tt.name, tt.qtype)); got != tt.want {
						t.Errorf("got %q, want %q", got, tt.want)
					}
					if local := up.queries.Load() == before; local != tt.local {
						t.Errorf("answered here: %v, want %v", local, tt.local)
					}
				})
			}
		}
	})
}

func TestDNSTriesUpstreamsInOrder(t *testing.T) {
	silent := startUpstream(t, func(bool, *dns.Msg) *dns.Msg { return nil })
	broken := startUpstream(t, func(_ bool, req *dns.Msg) *dns.Msg {
		return new(dns.Msg).SetRcode(req, dns.RcodeServerFailure)
	})
	good := startUpstream(t, func(_ bool, req *dns.Msg) *dns.Msg { return answerA(req, "203.0.113.1") })
	forged := startUpstream(t, func(_ bool, req *dns.Msg) *dns.Msg {
		m := answerA(req, "203.0.113.66")
		m.Question[0].Name = "elsewhere.example."
		return m
	})
	tests := map[string]struct {
		servers []netip.AddrPort
		want    string
	}{
		"the first that answers": {[]netip.AddrPort{silent.addr, broken.addr, good.addr, forged.addr}, "NOERROR 203.0.113.1"},
		"another's question":     {[]netip.AddrPort{forged.addr, good.addr}, "NOERROR 203.0.113.1"},
		"all silent":             {[]netip.AddrPort{silent.addr}, "SERVFAIL"},
		"all broken":             {[]netip.AddrPort{broken.addr, silent.addr}, "SERVFAIL"},
		"none":                   {nil, "SERVFAIL"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := summary(ask(t, "udp", startDNS(t, tt.servers...), "example.org", dns.TypeA)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDNSLongAnswers(t *testing.T) {
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("203.0.113.%d", i))
	}
	long := func(tcp bool, req *dns.Msg) *dns.Msg {
		m := answerA(req, many...)
		if !tcp {
			m.Truncate(dns.MinMsgSize)
		}
		return m
	}
	whole := startDNS(t, startUpstream(t, long).addr)
	if reply := ask(t, "tcp", whole, "example.org", dns.TypeA); len(reply.Answer) != len(many) || reply.Truncated {
		t.Errorf("by TCP: %d answers, truncated %v", len(reply.Answer), reply.Truncated)
	}
	// A client without EDNS0 can't read more than 512 bytes, so an answer that
	// arrives whole was short enough.
	if reply := ask(t, "udp", whole, "example.org", dns.TypeA); !reply.Truncated || len(reply.Answer) == 0 {
		t.Errorf("by UDP: %d answers, truncated %v", len(reply.Answer), reply.Truncated)
	}

	udpOnly := startDNS(t, startUpstream(t, func(tcp bool, req *dns.Msg) *dns.Msg {
		if tcp {
			return nil
		}
		return long(tcp, req)
	}).addr)
	if reply := ask(t, "udp", udpOnly, "example.org", dns.TypeA); !reply.Truncated || len(reply.Answer) == 0 {
		t.Errorf("without TCP: %d answers, truncated %v", len(reply.Answer), reply.Truncated)
	}
}

func TestUpstreamsFollowResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string) {
		t.Helper()
		// By renaming, as resolvconf and NetworkManager do.
		if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o644), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	cfg := testConfig()
	cfg.DNS = []netip.AddrPort{{}} // as good as none
	u := newUpstreams(cfg, slog.New(slog.DiscardHandler), path)
	check := func(want ...string) {
		t.Helper()
		var got []string
		for _, s := range u.list() {
			got = append(got, s.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	check()
	write("nameserver 192.0.2.1\nnameserver 172.16.0.1\nnameserver fe80::1%eth0\nnameserver nonsense\n")
	check("192.0.2.1:53", "[fe80::1%eth0]:53")
	write("nameserver 127.0.0.53\nnameserver 127.0.0.1\noptions edns0\n")
	check("127.0.0.53:53", "127.0.0.1:53")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("127.0.0.53:53", "127.0.0.1:53")
	write("nameserver 192.0.2.2\n")
	check("192.0.2.2:53")
}
