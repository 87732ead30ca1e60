package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"banger/internal/guard"
)

const (
	// forwardTimeout bounds the work for one query, with all its servers; guests
	// ask again, or give up, after that time.
	forwardTimeout = 5 * time.Second
	// maxStray is how many packets that aren't the reply an upstream server's
	// socket takes.
	maxStray = 16
)

// forward asks the upstream servers in order until one has an answer. A server
// that can't answer counts like one that is silent, but if none does better,
// its reply is passed on.
func (h *dnsHandler) forward(ctx context.Context, q *query) []byte {
	ctx, cancel := context.WithTimeout(ctx, h.inAll)
	defer cancel()
	failure := q.failure()
	for _, server := range h.upstreams() {
		reply, err := h.exchange(ctx, q, server)
		if err != nil {
			h.log.DebugContext(ctx, "DNS server gave no answer", "server", server, "question", q.msg.Question[0].Name, "err", err)
			continue
		}
		if rcode := int(reply[3] & 0xf); rcode != dns.RcodeServerFailure && rcode != dns.RcodeRefused {
			return reply
		}
		failure = reply
	}
	return failure
}

// exchange asks one server, by UDP, and by TCP if the asker came that way and
// the answer is too long for UDP. Where TCP doesn't get through, the shortened
// answer is better than none.
//
// A reply is passed on as it came, and read no further than to its question:
// what a hostile server puts behind that is the asker's to judge.
func (h *dnsHandler) exchange(ctx context.Context, q *query, server netip.AddrPort) ([]byte, error) {
	upstream := q.upstream()
	reply, err := h.ask(ctx, "udp", server, upstream)
	if err != nil {
		return nil, err
	}
	if truncated := reply[2]&0x02 != 0; truncated && !q.udp {
		if whole, err := h.ask(ctx, "tcp", server, upstream); err == nil {
			reply = whole
		}
	}
	if q.udp && len(reply) > q.udpSize() {
		short := new(dns.Msg).SetReply(q.msg)
		short.Truncated = true
		return q.pack(short), nil
	}
	binary.BigEndian.PutUint16(reply, q.msg.Id)
	return reply, nil
}

// upstream is the query as an upstream server gets it: the question, and of
// EDNS0 what isn't between neighbours only.
func (q *query) upstream() *dns.Msg {
	m := new(dns.Msg)
	m.Id = dns.Id() // the asker's would make answers easier to forge
	m.RecursionDesired = q.msg.RecursionDesired
	m.CheckingDisabled = q.msg.CheckingDisabled
	m.AuthenticatedData = q.msg.AuthenticatedData
	m.Question = q.msg.Question
	if opt := q.msg.IsEdns0(); opt != nil {
		m.SetEdns0(uint16(q.udpSize()), opt.Do())
	}
	return m
}

// ask sends a query to a server and returns the reply to it, which has a header
// and the same question.
func (h *dnsHandler) ask(ctx context.Context, network string, server netip.AddrPort, query *dns.Msg) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, guard.Func("end a DNS query", func() { _ = conn.SetDeadline(time.Unix(1, 0)) }))()
	packed, err := query.Pack()
	if err != nil {
		return nil, err
	}
	// Conn adds the length that messages have on TCP.
	c := &dns.Conn{Conn: conn, UDPSize: maxUDP}
	if _, err := c.Write(packed); err != nil {
		return nil, err
	}
	for range maxStray {
		reply, err := c.ReadMsgHeader(nil)
		if err != nil {
			return nil, err
		}
		// By UDP there may be answers to an earlier query on the same port, and
		// forged ones.
		if err = checkReply(query, reply); !errors.Is(err, dns.ErrId) || network == "tcp" {
			return reply, err
		}
	}
	return nil, errors.New("too many messages were no reply")
}

// checkReply tells whether a message, which has a header at least, is a reply to
// the query. It is dns.ErrId if it is none to any query with the same id.
func checkReply(query *dns.Msg, reply []byte) error {
	if binary.BigEndian.Uint16(reply) != query.Id || reply[2]&0x80 == 0 {
		return dns.ErrId
	}
	if binary.BigEndian.Uint16(reply[4:]) != 1 {
		return errors.New("the reply has no question, or more than one")
	}
	name, end, err := dns.UnpackDomainName(reply, headerSize)
	if err != nil {
		return fmt.Errorf("read the reply's question: %w", err)
	}
	if len(reply) < end+4 {
		return errors.New("the reply ends within its question")
	}
	q := query.Question[0]
	if !strings.EqualFold(name, q.Name) || binary.BigEndian.Uint16(reply[end:]) != q.Qtype ||
		binary.BigEndian.Uint16(reply[end+2:]) != q.Qclass {
		return errors.New("the reply is for another question")
	}
	return nil
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
