package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"banger/internal/api"
)

const (
	dnsPort = 53
	// Domain is where VMs have their names; a VM's bare name works as well.
	Domain = "banger"
	// hostName in Domain is the gateway's name.
	hostName = "host"
	// ttl of own answers, in seconds: a name can soon belong to another VM.
	ttl = 5
	// maxQueries bounds the queries that are worked on at the same time.
	maxQueries = 256
)

// LookupFunc finds the address of the VM with this name (lower case).
type LookupFunc func(name string) (netip.Addr, bool)

// ReverseFunc finds the name of the VM with this address.
type ReverseFunc func(addr netip.Addr) (string, bool)

// dnsService is a DNS server that runs.
type dnsService struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

// startDNS answers on port 53 of the gateway, by UDP and TCP, unless that
// happens already. Names and addresses of VMs are answered here, all else by
// the upstream servers.
func (n *Network) startDNS(ctx context.Context) error {
	if n.lookup == nil || n.dns != nil {
		return nil
	}
	addr := netip.AddrPortFrom(n.cfg.Gateway, dnsPort).String()
	udp, tcp, err := listenDNS(ctx, addr)
	if errors.Is(err, unix.EADDRINUSE) {
		return api.Errorf(api.CodeHost, "another DNS server listens on %s, the address of banger's bridge", addr).
			WithHint("keep it off the interface %s (dnsmasq: except-interface=%s and bind-dynamic)", n.cfg.Bridge, n.cfg.Bridge)
	}
	if err != nil {
		return fmt.Errorf("listen for DNS queries: %w", err)
	}
	// The server outlives the call that brings the network up.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.dns = &dnsService{cancel: cancel, ended: make(chan struct{})}
	h := newDNSHandler(n.cfg, n.log, n.lookup, n.reverse)
	go func(ended chan<- struct{}) {
		defer close(ended)
		if err := h.serve(ctx, udp, tcp); err != nil {
			n.log.ErrorContext(ctx, "VMs have no DNS any more", "err", err)
		}
	}(n.dns.ended)
	return nil
}

// stopDNS returns when the sockets are closed.
func (n *Network) stopDNS() {
	if n.dns == nil {
		return
	}
	n.dns.cancel()
	<-n.dns.ended
	n.dns = nil
}

func listenDNS(ctx context.Context, addr string) (net.PacketConn, net.Listener, error) {
	var lc net.ListenConfig
	udp, err := lc.ListenPacket(ctx, "udp4", addr)
	if err != nil {
		return nil, nil, err
	}
	tcp, err := lc.Listen(ctx, "tcp4", addr)
	if err != nil {
		return nil, nil, errors.Join(err, udp.Close())
	}
	return udp, tcp, nil
}

// dnsHandler answers queries.
type dnsHandler struct {
	cfg       Config
	log       *slog.Logger
	lookup    LookupFunc
	reverse   ReverseFunc
	upstreams func() []netip.AddrPort
	timeout   time.Duration // for one upstream server
	slots     chan struct{}
}

func newDNSHandler(cfg Config, log *slog.Logger, lookup LookupFunc, reverse ReverseFunc) *dnsHandler {
	return &dnsHandler{
		cfg: cfg, log: log, lookup: lookup, reverse: reverse,
		upstreams: newUpstreams(cfg, log, "/etc/resolv.conf").list,
		timeout:   2 * time.Second,
		slots:     make(chan struct{}, maxQueries),
	}
}

// serve owns both sockets.
func (h *dnsHandler) serve(ctx context.Context, udp net.PacketConn, tcp net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) { h.handle(ctx, w, req) })
	g.Go(func() error { return runServer(ctx, &dns.Server{PacketConn: udp, Handler: handler}) })
	g.Go(func() error { return runServer(ctx, &dns.Server{Listener: tcp, Handler: handler}) })
	return g.Wait()
}

// runServer runs srv until ctx ends. A server can be shut down only after it
// has told that it has started.
func runServer(ctx context.Context, srv *dns.Server) error {
	const grace = 2 * time.Second
	started, ended := make(chan struct{}), make(chan error, 1)
	srv.NotifyStartedFunc = func() { close(started) }
	go func() { ended <- srv.ActivateAndServe() }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve DNS: %w", err)
	case <-started:
	}
	select {
	case err := <-ended:
		return fmt.Errorf("serve DNS: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	// Queries that outlive the grace end by their own time-outs.
	if err := srv.ShutdownContext(stop); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("end the DNS server: %w", err)
	}
	return <-ended
}

func (h *dnsHandler) handle(ctx context.Context, w dns.ResponseWriter, req *dns.Msg) {
	reply := h.local(req)
	if reply == nil {
		select {
		case h.slots <- struct{}{}:
			reply = h.forward(ctx, req)
			<-h.slots
		default:
			reply = new(dns.Msg).SetRcode(req, dns.RcodeServerFailure)
		}
	}
	if w.LocalAddr().Network() == "udp" {
		reply.Truncate(udpSize(req))
	}
	if err := w.WriteMsg(reply); err != nil {
		h.log.DebugContext(ctx, "DNS reply was not sent", "to", w.RemoteAddr(), "err", err)
	}
}

// udpSize is the largest UDP reply that the asker takes (RFC 6891).
func udpSize(req *dns.Msg) int {
	if opt := req.IsEdns0(); opt != nil {
		return max(int(opt.UDPSize()), dns.MinMsgSize)
	}
	return dns.MinMsgSize
}

// local answers what is about VMs; nil if the question is for the upstreams.
func (h *dnsHandler) local(req *dns.Msg) *dns.Msg {
	q := req.Question[0] // the server lets only messages with one question pass
	if q.Qclass != dns.ClassINET {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	if addr, ok := parseReverse(name); ok {
		return h.localPTR(req, addr)
	}
	addr, known := h.address(name)
	if !known && name != Domain && !strings.HasSuffix(name, "."+Domain) {
		return nil
	}
	reply := newReply(req)
	if !known && name != Domain {
		reply.Rcode = dns.RcodeNameError
	}
	// The name exists with an A record only: other types are an empty answer,
	// not an error, or askers would give up on the name.
	if known && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY) {
		header := dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
		reply.Answer = []dns.RR{&dns.A{Hdr: header, A: addr.AsSlice()}}
	}
	return reply
}

// address finds a VM, or the host, by its name with or without the domain.
func (h *dnsHandler) address(name string) (netip.Addr, bool) {
	host, inDomain := strings.CutSuffix(name, "."+Domain)
	if inDomain && host == hostName {
		return h.cfg.Gateway, true
	}
	if host == "" || strings.Contains(host, ".") {
		return netip.Addr{}, false
	}
	return h.lookup(host)
}

// localPTR answers for addresses of the subnet.
func (h *dnsHandler) localPTR(req *dns.Msg, addr netip.Addr) *dns.Msg {
	if !h.cfg.Subnet.Contains(addr) {
		return nil
	}
	name, ok := hostName, addr == h.cfg.Gateway
	if !ok {
		name, ok = h.reverse(addr)
	}
	reply := newReply(req)
	q := req.Question[0]
	switch {
	case !ok:
		reply.Rcode = dns.RcodeNameError
	case q.Qtype == dns.TypePTR || q.Qtype == dns.TypeANY:
		header := dns.RR_Header{Name: q.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}
		reply.Answer = []dns.RR{&dns.PTR{Hdr: header, Ptr: name + "." + Domain + "."}}
	}
	return reply
}

// parseReverse reads d.c.b.a.in-addr.arpa.
func parseReverse(name string) (netip.Addr, bool) {
	digits, ok := strings.CutSuffix(name, ".in-addr.arpa")
	if !ok {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(digits)
	if err != nil || !addr.Is4() {
		return netip.Addr{}, false
	}
	b := addr.As4()
	return netip.AddrFrom4([4]byte{b[3], b[2], b[1], b[0]}), true
}

// newReply starts an answer of our own.
func newReply(req *dns.Msg) *dns.Msg {
	reply := new(dns.Msg).SetReply(req)
	reply.Authoritative = true
	reply.RecursionAvailable = true
	if opt := req.IsEdns0(); opt != nil {
		reply.SetEdns0(opt.UDPSize(), false)
	}
	return reply
}
