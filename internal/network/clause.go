package network

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers hold 16 bytes; all clauses use the first one.
const register = 1

// The hooks and priorities in use.
func hookPrerouting() Hook  { return Hook{"prerouting", nftables.ChainHookPrerouting} }
func hookInput() Hook       { return Hook{"input", nftables.ChainHookInput} }
func hookForward() Hook     { return Hook{"forward", nftables.ChainHookForward} }
func hookPostrouting() Hook { return Hook{"postrouting", nftables.ChainHookPostrouting} }

func priorityRaw() Priority    { return Priority{"raw", nftables.ChainPriorityRaw} }
func priorityFilter() Priority { return Priority{"filter", nftables.ChainPriorityFilter} }
func prioritySrcNAT() Priority { return Priority{"srcnat", nftables.ChainPriorityNATSource} }

func load(key expr.MetaKey) *expr.Meta { return &expr.Meta{Key: key, Register: register} }

func equal(data ...byte) *expr.Cmp {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}
}

func notEqual(data ...byte) *expr.Cmp {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: data}
}

// ifname pads a name as the kernel compares it.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func iif(name string) Clause {
	return Clause{fmt.Sprintf("iifname %q", name), []expr.Any{load(expr.MetaKeyIIFNAME), equal(ifname(name)...)}}
}

func iifNot(name string) Clause {
	return Clause{fmt.Sprintf("iifname != %q", name), []expr.Any{load(expr.MetaKeyIIFNAME), notEqual(ifname(name)...)}}
}

func oif(name string) Clause {
	return Clause{fmt.Sprintf("oifname %q", name), []expr.Any{load(expr.MetaKeyOIFNAME), equal(ifname(name)...)}}
}

func oifNot(name string) Clause {
	return Clause{fmt.Sprintf("oifname != %q", name), []expr.Any{load(expr.MetaKeyOIFNAME), notEqual(ifname(name)...)}}
}

func ipv6() Clause {
	return Clause{"meta nfproto ipv6", []expr.Any{load(expr.MetaKeyNFPROTO), equal(unix.NFPROTO_IPV6)}}
}

// In a table of both families an IPv4 header may be read only after the
// packet is known to have one; nft(8) adds that match silently, too.
func ipv4() []expr.Any {
	return []expr.Any{load(expr.MetaKeyNFPROTO), equal(unix.NFPROTO_IPV4)}
}

// Offsets in the IPv4 header, RFC 791.
const (
	offsetSaddr = 12
	offsetDaddr = 16
)

func address(offset uint32) *expr.Payload {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}
}

func mask(p netip.Prefix) *expr.Bitwise {
	bits := ^uint32(0) << (32 - p.Bits())
	return &expr.Bitwise{
		SourceRegister: register, DestRegister: register, Len: 4,
		Mask: binaryutil.BigEndian.PutUint32(bits), Xor: make([]byte, 4),
	}
}

func saddrIn(p netip.Prefix) Clause {
	return Clause{"ip saddr " + p.Masked().String(),
		append(ipv4(), address(offsetSaddr), mask(p), equal(p.Masked().Addr().AsSlice()...))}
}

func saddrNotIn(p netip.Prefix) Clause {
	return Clause{"ip saddr != " + p.Masked().String(),
		append(ipv4(), address(offsetSaddr), mask(p), notEqual(p.Masked().Addr().AsSlice()...))}
}

func daddrIn(p netip.Prefix) Clause {
	return Clause{"ip daddr " + p.Masked().String(),
		append(ipv4(), address(offsetDaddr), mask(p), equal(p.Masked().Addr().AsSlice()...))}
}

func daddr(a netip.Addr) Clause {
	return Clause{"ip daddr " + a.String(), append(ipv4(), address(offsetDaddr), equal(a.AsSlice()...))}
}

func daddrInSet(name string) Clause {
	return Clause{"ip daddr @" + name,
		append(ipv4(), address(offsetDaddr), &expr.Lookup{SourceRegister: register, SetName: name})}
}

// dport matches the destination port of "tcp" or "udp".
func dport(proto string, port uint16) Clause {
	num := byte(unix.IPPROTO_TCP)
	if proto == "udp" {
		num = unix.IPPROTO_UDP
	}
	return Clause{fmt.Sprintf("%s dport %d", proto, port), []expr.Any{
		load(expr.MetaKeyL4PROTO), equal(num),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		equal(binaryutil.BigEndian.PutUint16(port)...),
	}}
}

func icmpEchoRequest() Clause {
	const echoRequest = 8 // RFC 792
	return Clause{"icmp type echo-request", []expr.Any{
		load(expr.MetaKeyL4PROTO), equal(unix.IPPROTO_ICMP),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		equal(echoRequest),
	}}
}

func established() Clause {
	return Clause{"ct state established,related", []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: register},
		&expr.Bitwise{
			SourceRegister: register, DestRegister: register, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED),
			Xor:  make([]byte, 4),
		},
		notEqual(0, 0, 0, 0),
	}}
}

// The flags of a TCP segment, RFC 9293.
const (
	offsetTCPFlags = 13
	tcpFlagSyn     = 0x02
	tcpFlagsAll    = 0x3f // fin, syn, rst, psh, ack, urg
)

// tcpFlags loads those flags of a TCP segment that are in mask.
func tcpFlags(mask byte) []expr.Any {
	return []expr.Any{
		load(expr.MetaKeyL4PROTO), equal(unix.IPPROTO_TCP),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offsetTCPFlags, Len: 1},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{mask}, Xor: []byte{0}},
	}
}

// tcpSyn matches the segments that open a connection, of either side.
func tcpSyn() Clause {
	return Clause{"tcp flags syn", append(tcpFlags(tcpFlagSyn), notEqual(0))}
}

// tcpNoFlags matches segments that no TCP sends.
func tcpNoFlags() Clause {
	return Clause{"tcp flags ! fin,syn,rst,psh,ack,urg", append(tcpFlags(tcpFlagsAll), equal(0))}
}

// clampMSS lowers the announced segment size to what the route can carry.
func clampMSS() Clause {
	const optionMSS = 2 // RFC 9293; its value is at offset 2
	return Clause{"tcp option maxseg size set rt mtu", []expr.Any{
		&expr.Rt{Register: register, Key: expr.RtTCPMSS},
		&expr.Byteorder{SourceRegister: register, DestRegister: register, Op: expr.ByteorderHton, Len: 2, Size: 2},
		&expr.Exthdr{SourceRegister: register, Op: expr.ExthdrOpTcpopt, Type: optionMSS, Offset: 2, Len: 2},
	}}
}

func accept() Clause {
	return Clause{"accept", []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}}
}

func drop() Clause {
	return Clause{"drop", []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}}
}

func masquerade() Clause {
	return Clause{"masquerade", []expr.Any{&expr.Masq{}}}
}

// tableName makes the bridge's name part of an identifier of nft(8), which
// has fewer characters than a bridge's name can have.
func tableName(bridge string) string {
	var b strings.Builder
	b.WriteString("banger_")
	for _, c := range []byte(bridge) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}
