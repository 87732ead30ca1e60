package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// forward asks the upstream servers in order until one has an answer. A server
// that can't answer counts like one that is silent, but if none does better,
// its reply is passed on.
func (h *dnsHandler) forward(ctx context.Context, req *dns.Msg) *dns.Msg {
	failure := new(dns.Msg).SetRcode(req, dns.RcodeServerFailure)
	for _, server := range h.upstreams() {
		reply, err := h.exchange(ctx, req, server)
		if err != nil {
			h.log.DebugContext(ctx, "DNS server gave no answer", "server", server, "question", req.Question[0].Name, "err", err)
			continue
		}
		if reply.Rcode != dns.RcodeServerFailure && reply.Rcode != dns.RcodeRefused {
			return reply
		}
		failure = reply
	}
	return failure
}

// exchange asks one server, by UDP, and by TCP if the answer is too long for
// that. Where TCP doesn't get through, the shortened answer is better than
// none.
func (h *dnsHandler) exchange(ctx context.Context, req *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	query := req.Copy()
	query.Id = dns.Id() // the asker's would make answers easier to forge
	client := &dns.Client{Net: "udp", Timeout: h.timeout}
	reply, _, err := client.ExchangeContext(ctx, query, server.String())
	if err != nil {
		return nil, err
	}
	if reply.Truncated {
		client.Net = "tcp"
		if whole, _, err := client.ExchangeContext(ctx, query, server.String()); err == nil {
			reply = whole
		}
	}
	if !sameQuestion(query, reply) {
		return nil, errors.New("the reply is for another question")
	}
	reply.Id = req.Id
	return reply, nil
}

func sameQuestion(query, reply *dns.Msg) bool {
	if len(reply.Question) != 1 {
		return false
	}
	q, r := query.Question[0], reply.Question[0]
	return strings.EqualFold(q.Name, r.Name) && q.Qtype == r.Qtype && q.Qclass == r.Qclass
}

// upstreams knows the servers to forward to.
type upstreams struct {
	cfg  Config
	log  *slog.Logger
	path string // of resolv.conf(5)

	mu      sync.Mutex
	seen    fs.FileInfo // of path when servers were read; nil if that failed
	servers []netip.AddrPort
	failed  bool // the last try; so that a lasting failure is logged once
}

func newUpstreams(cfg Config, log *slog.Logger, path string) *upstreams {
	cfg.DNS = slices.DeleteFunc(slices.Clone(cfg.DNS), func(s netip.AddrPort) bool { return !s.IsValid() })
	return &upstreams{cfg: cfg, log: log, path: path}
}

// list returns the configured servers, else those of resolv.conf, which is
// read again whenever it has changed: hosts move between networks.
func (u *upstreams) list() []netip.AddrPort {
	if len(u.cfg.DNS) > 0 {
		return u.cfg.DNS
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	info, err := os.Stat(u.path)
	if err == nil && u.seen != nil && sameVersion(u.seen, info) {
		return u.servers
	}
	if err == nil {
		var servers []netip.AddrPort
		if servers, err = u.read(); err == nil {
			u.servers = servers
		}
	}
	if err != nil {
		if !u.failed {
			u.log.Warn("the DNS servers are unknown; the last known ones are asked", "err", err)
		}
		u.seen, u.failed = nil, true
		return u.servers
	}
	u.seen, u.failed = info, false
	return u.servers
}

func sameVersion(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func (u *upstreams) read() ([]netip.AddrPort, error) {
	conf, err := dns.ClientConfigFromFile(u.path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", u.path, err)
	}
	port, err := strconv.ParseUint(conf.Port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", u.path, err)
	}
	var servers []netip.AddrPort
	for _, s := range conf.Servers {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			u.log.Warn("a DNS server is not an address", "file", u.path, "server", s)
			continue
		}
		server := netip.AddrPortFrom(addr, uint16(port))
		// Asking ourselves would never end.
		if addr != u.cfg.Gateway && !slices.Contains(servers, server) {
			servers = append(servers, server)
		}
	}
	return servers, nil
}
