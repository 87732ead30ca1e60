package network

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

const (
	headerSize = 12 // RFC 1035, 4.1.1
	// maxExtra bounds the records besides the question: EDNS0 and a signature.
	maxExtra = 2
	// maxUDP bounds UDP messages, in bytes, whatever size the other side takes.
	maxUDP = 4096
)

// query is a question of a guest, checked.
type query struct {
	msg *dns.Msg // with exactly one question
	udp bool     // how it came, and the reply goes
}

// answer returns the reply to a message of a guest, or the query that an
// upstream server has to answer. Neither means that there is nothing to reply.
func (h *dnsHandler) answer(message []byte, udp bool) (reply []byte, q *query) {
	msg, refusal := parseQuery(message)
	if msg == nil {
		return refusal, nil
	}
	q = &query{msg: msg, udp: udp}
	local := h.local(msg)
	if local == nil {
		return nil, q
	}
	return q.pack(local), nil
}

// parseQuery reads a query. It returns nil for what isn't one, and how that is
// to be answered; nothing for answers and for less than a header, which can't
// be answered without inviting loops.
func parseQuery(message []byte) (msg *dns.Msg, refusal []byte) {
	if len(message) < headerSize || message[2]&0x80 != 0 {
		return nil, nil
	}
	if len(message) > maxQuery {
		return nil, refuse(message, dns.RcodeFormatError)
	}
	if opcode := int(message[2]>>3) & 0xf; opcode != dns.OpcodeQuery {
		return nil, refuse(message, dns.RcodeNotImplemented)
	}
	count := func(section int) uint16 { return binary.BigEndian.Uint16(message[4+2*section:]) }
	// The counts are checked before anything is read by them.
	if count(0) != 1 || count(1) != 0 || count(2) != 0 || count(3) > maxExtra {
		return nil, refuse(message, dns.RcodeFormatError)
	}
	msg = new(dns.Msg)
	// The library takes a message that ends after its header, or within its
	// question, for a whole one. No question has a type or class of 0.
	if err := msg.Unpack(message); err != nil || len(msg.Question) != 1 ||
		msg.Question[0].Qtype == dns.TypeNone || msg.Question[0].Qclass == 0 {
		return nil, refuse(message, dns.RcodeFormatError)
	}
	return msg, nil
}

// refuse answers a message that has a header by one that has nothing else.
func refuse(message []byte, rcode int) []byte {
	reply := make([]byte, headerSize)
	copy(reply, message[:2])          // the id
	reply[2] = 0x80 | message[2]&0x79 // an answer; the asker's opcode and "recursion desired"
	reply[3] = 0x80 | byte(rcode)&0xf // recursion is available
	return reply
}

// pack encodes the reply, shortened to what the asker takes.
func (q *query) pack(reply *dns.Msg) []byte {
	if q.udp {
		reply.Truncate(q.udpSize())
	}
	packed, err := reply.Pack()
	if err != nil {
		return nil // a question that can be read and not be written
	}
	return packed
}

// udpSize is the largest UDP reply that the asker takes (RFC 6891).
func (q *query) udpSize() int {
	opt := q.msg.IsEdns0()
	if opt == nil {
		return dns.MinMsgSize
	}
	return min(max(int(opt.UDPSize()), dns.MinMsgSize), maxUDP)
}

// failure says that no server could answer.
func (q *query) failure() []byte {
	return q.pack(new(dns.Msg).SetRcode(q.msg, dns.RcodeServerFailure))
}

// local answers what is about VMs; nil if the question is for the upstreams.
func (h *dnsHandler) local(req *dns.Msg) *dns.Msg {
	q := req.Question[0]
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
	if name == InternalName {
		return h.cfg.Gateway, true
	}
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
		reply.SetEdns0(maxQuery, false)
	}
	return reply
}
