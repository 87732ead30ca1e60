package network

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers hold 16 bytes; all clauses use the first one.
const register = 1

// The families, hooks and priorities in use.
func familyInet() Family   { return Family{"inet", nftables.TableFamilyINet} }
func familyNetdev() Family { return Family{"netdev", nftables.TableFamilyNetdev} }

func hookPrerouting() Hook  { return Hook{name: "prerouting", num: nftables.ChainHookPrerouting} }
func hookInput() Hook       { return Hook{name: "input", num: nftables.ChainHookInput} }
func hookForward() Hook     { return Hook{name: "forward", num: nftables.ChainHookForward} }
func hookPostrouting() Hook { return Hook{name: "postrouting", num: nftables.ChainHookPostrouting} }

func hookIngress(device string) Hook {
	return Hook{name: "ingress", num: nftables.ChainHookIngress, device: device}
}

func priorityRaw() Priority    { return Priority{"raw", nftables.ChainPriorityRaw} }
func priorityFilter() Priority { return Priority{"filter", nftables.ChainPriorityFilter} }
func priorityDstNAT() Priority { return Priority{"dstnat", nftables.ChainPriorityNATDest} }
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

func saddr(a netip.Addr) Clause {
	return Clause{"ip saddr " + a.String(), append(ipv4(), address(offsetSaddr), equal(a.AsSlice()...))}
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

// Offsets in a frame's header, IEEE 802.3, and in ARP's over Ethernet, RFC 826.
const (
	offsetEtherSaddr   = 6
	offsetEtherType    = 12
	offsetARPSaddr     = 8
	offsetARPSaddrIPv4 = 14
)

// A frame's header may be read only after the interface is known to have such
// frames; nft(8) adds that match silently, too.
func ethernet() []expr.Any {
	return []expr.Any{load(expr.MetaKeyIIFTYPE), equal(binaryutil.NativeEndian.PutUint16(unix.ARPHRD_ETHER)...)}
}

func etherSaddrNot(mac net.HardwareAddr) Clause {
	return Clause{"ether saddr != " + mac.String(), append(ethernet(),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseLLHeader, Offset: offsetEtherSaddr, Len: 6},
		notEqual(mac...))}
}

// protocol matches what the frame itself says that it carries. The kernel's
// own notion of it (meta protocol) looks behind a VLAN tag.
func protocol(etherType uint16) []expr.Any {
	return append(ethernet(),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseLLHeader, Offset: offsetEtherType, Len: 2},
		equal(binaryutil.BigEndian.PutUint16(etherType)...))
}

func etherType(name string, num uint16) Clause {
	return Clause{"ether type " + name, protocol(num)}
}

// saddrOfFrame matches frames with IPv4 from a. nft(8) takes the match of the
// protocol for granted and doesn't show it.
func saddrOfFrame(a netip.Addr) Clause {
	return Clause{"ip saddr " + a.String(),
		append(protocol(unix.ETH_P_IP), address(offsetSaddr), equal(a.AsSlice()...))}
}

// arpOverEthernet matches ARP for IPv4 with addresses of the usual sizes.
func arpOverEthernet() Clause {
	field := func(offset uint32, value ...byte) []expr.Any {
		return []expr.Any{
			&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(value))},
			equal(value...),
		}
	}
	return Clause{"arp htype 1 arp ptype ip arp hlen 6 arp plen 4", slices.Concat(protocol(unix.ETH_P_ARP),
		field(0, binaryutil.BigEndian.PutUint16(unix.ARPHRD_ETHER)...), field(2, binaryutil.BigEndian.PutUint16(unix.ETH_P_IP)...),
		field(4, 6), field(5, 4))}
}

// arpSender matches ARP that says of a only that it is at mac.
func arpSender(mac net.HardwareAddr, a netip.Addr) Clause {
	return Clause{fmt.Sprintf("arp saddr ether %s arp saddr ip %s", mac, a), []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offsetARPSaddr, Len: 6},
		equal(mac...),
		address(offsetARPSaddrIPv4),
		equal(a.AsSlice()...),
	}}
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

// redirect leads to a port of this machine's address on the interface.
func redirect(port uint16) Clause {
	return Clause{fmt.Sprintf("redirect to :%d", port), []expr.Any{
		&expr.Immediate{Register: register, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Redir{RegisterProtoMin: register, Flags: nfNATRangeProtoSpecified},
	}}
}

// nfNATRangeProtoSpecified is NF_NAT_RANGE_PROTO_SPECIFIED of Linux.
const nfNATRangeProtoSpecified = 2

// tableName makes an interface's name part of an identifier of nft(8), which
// has fewer characters than an interface's name can have.
func tableName(link string) string {
	var b strings.Builder
	b.WriteString("banger_")
	for _, c := range []byte(link) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}
