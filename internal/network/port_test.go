package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/api"
)

var everybody = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// frame is an Ethernet frame; tags are those of VLANs, each with its type.
func frame(dst, src net.HardwareAddr, etherType uint16, tags []uint16, payload []byte) []byte {
	f := slices.Concat(dst, src)
	for i := 0; i+1 < len(tags); i += 2 {
		f = binary.BigEndian.AppendUint16(f, tags[i])
		f = binary.BigEndian.AppendUint16(f, tags[i+1])
	}
	return append(binary.BigEndian.AppendUint16(f, etherType), payload...)
}

// arpPayload says, as a request or a reply, that addr is at mac.
func arpPayload(operation byte, mac net.HardwareAddr, addr netip.Addr) []byte {
	return slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, operation}, mac, addr.AsSlice(), everybody, addr.AsSlice())
}

// markSize is the size of what passing adds to a frame.
const markSize = len("<frame 000>")

// ipPayload is the header of a datagram that has only the mark. Its checksum
// must be right where bridges have netfilter look at IP.
func ipPayload(src, dst netip.Addr) []byte {
	h := slices.Concat([]byte{0x45, 0, 0, byte(20 + markSize), 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}, src.AsSlice(), dst.AsSlice())
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
	return h
}

// ipv6Payload is the same of IPv6, without a next header.
func ipv6Payload() []byte {
	return append([]byte{0x60, 0, 0, 0, 0, byte(markSize), unix.IPPROTO_NONE, 64}, make([]byte, 32)...)
}

// TestPortFilter sends frames as a VMM would for the guest, and looks at which
// of them reach the bridge.
func TestPortFilter(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needTun(t)
	n := testNetwork()
	must(t, n.bringUp(t.Context()))
	attach(t, n, tapA, addrA)
	attach(t, n, tapB, addrB)
	a, b, gateway := netip.MustParseAddr(addrA), netip.MustParseAddr(addrB), testConfig().Gateway
	macA, macB, macGateway := hardwareAddr(a), hardwareAddr(b), hardwareAddr(gateway)
	const request, reply = 1, 2
	odd := arpPayload(request, macA, a)
	odd[4] = 8 // addresses are longer than the rules look

	honest := map[string][]byte{
		"IPv4":                    frame(macGateway, macA, unix.ETH_P_IP, nil, ipPayload(a, gateway)),
		"IPv4 to everybody":       frame(everybody, macA, unix.ETH_P_IP, nil, ipPayload(a, broadcast(n.config().Subnet))),
		"ARP request":             frame(everybody, macA, unix.ETH_P_ARP, nil, arpPayload(request, macA, a)),
		"ARP reply":               frame(macGateway, macA, unix.ETH_P_ARP, nil, arpPayload(reply, macA, a)),
		"ARP reply for everybody": frame(everybody, macA, unix.ETH_P_ARP, nil, arpPayload(reply, macA, a)),
	}
	forged := map[string][]byte{
		"IPv4 of another VM":             frame(macGateway, macA, unix.ETH_P_IP, nil, ipPayload(b, gateway)),
		"IPv4 of the gateway":            frame(macGateway, macA, unix.ETH_P_IP, nil, ipPayload(gateway, gateway)),
		"IPv4 of an address of nobody's": frame(macGateway, macA, unix.ETH_P_IP, nil, ipPayload(b.Next(), gateway)),
		"IPv4 without an address (DHCP)": frame(everybody, macA, unix.ETH_P_IP, nil, ipPayload(netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255}))),
		"another VM's MAC":               frame(macGateway, macB, unix.ETH_P_IP, nil, ipPayload(a, gateway)),
		"another VM's MAC and IPv4":      frame(macGateway, macB, unix.ETH_P_IP, nil, ipPayload(b, gateway)),
		"the gateway's MAC":              frame(everybody, macGateway, unix.ETH_P_IP, nil, ipPayload(a, b)),
		"a MAC of nobody's":              frame(macGateway, hardwareAddr(b.Next()), unix.ETH_P_IP, nil, ipPayload(a, gateway)),
		"ARP request for another VM":     frame(everybody, macA, unix.ETH_P_ARP, nil, arpPayload(request, macA, b)),
		"ARP reply for another VM":       frame(macGateway, macA, unix.ETH_P_ARP, nil, arpPayload(reply, macA, b)),
		"ARP reply for the gateway":      frame(everybody, macA, unix.ETH_P_ARP, nil, arpPayload(reply, macA, gateway)),
		"ARP with another VM's MAC":      frame(everybody, macA, unix.ETH_P_ARP, nil, arpPayload(reply, macB, a)),
		"ARP from another VM's MAC":      frame(everybody, macB, unix.ETH_P_ARP, nil, arpPayload(reply, macB, b)),
		"ARP probe":                      frame(everybody, macA, unix.ETH_P_ARP, nil, arpPayload(request, macA, netip.IPv4Unspecified())),
		"ARP of odd sizes":               frame(everybody, macA, unix.ETH_P_ARP, nil, odd),
		"ARP that is cut":                frame(everybody, macA, unix.ETH_P_ARP, nil, odd[:8]),
		"RARP":                           frame(everybody, macA, unix.ETH_P_RARP, nil, arpPayload(reply, macA, a)),
		"IPv6":                           frame(everybody, macA, unix.ETH_P_IPV6, nil, ipv6Payload()),
		"another protocol":               frame(everybody, macA, unix.ETH_P_PPP_SES, nil, make([]byte, 46)),
		"IEEE 802.3 with a length":       frame(everybody, macA, 46, nil, make([]byte, 46)),
	}
	// The kernel takes a tag off and looks behind it before any rule runs, and
	// takes what has the priority tag 0 for untagged.
	for name, tags := range map[string][]uint16{
		"802.1Q 0": {unix.ETH_P_8021Q, 0}, "802.1Q 5": {unix.ETH_P_8021Q, 5}, "802.1ad 0": {unix.ETH_P_8021AD, 0},
		"802.1ad 5, 802.1Q 6": {unix.ETH_P_8021AD, 5, unix.ETH_P_8021Q, 6},
	} {
		forged["IPv4 behind "+name] = frame(macGateway, macA, unix.ETH_P_IP, tags, ipPayload(a, gateway))
		forged["IPv4 of another VM behind "+name] = frame(macGateway, macA, unix.ETH_P_IP, tags, ipPayload(b, gateway))
		forged["ARP for another VM behind "+name] = frame(everybody, macA, unix.ETH_P_ARP, tags, arpPayload(reply, macA, b))
	}

	w := newWire(t, tapA)
	want := slices.Sorted(maps.Keys(honest))
	if got := w.passing(honest); !slices.Equal(got, want) {
		t.Errorf("of a VM's honest frames only these pass: %q", got)
	}
	if got := w.passing(forged); len(got) > 0 {
		t.Errorf("forged frames pass: %q", got)
	}
	wantKnown := map[string]string{addrA: macA.String(), addrB: macB.String()}
	if got := neighbours(t); !maps.Equal(got, wantKnown) {
		t.Errorf("the host knows %v", got)
	}

	// It was the port's rules that dropped them, not others.
	must(t, Render(n.config()).remove())
	if got := w.passing(forged); len(got) > 0 {
		t.Errorf("with the port's rules alone, forged frames pass: %q", got)
	}
	must(t, RenderPort(tapA, a).remove())
	if got, want := w.passing(forged), slices.Sorted(maps.Keys(forged)); !slices.Equal(got, want) {
		t.Errorf("without rules only these pass: %q", got)
	}
	// Even so, what is written down stays.
	if got := neighbours(t); !maps.Equal(got, wantKnown) {
		t.Errorf("without rules, the host knows %v", got)
	}
	link, err := netlink.LinkByName(tapB)
	must(t, err)
	entries, err := netlink.NeighList(link.Attrs().Index, unix.AF_BRIDGE)
	must(t, err)
	if !slices.ContainsFunc(entries, func(e netlink.Neigh) bool { return bytes.Equal(e.HardwareAddr, macB) }) {
		t.Errorf("without rules, the bridge forgets where %s is", macB)
	}
}

// wire is a tap's end at the VMM, and what is seen of it on the bridge.
type wire struct {
	t    *testing.T
	tap  *os.File
	seen *os.File
}

func newWire(t *testing.T, tap string) *wire {
	t.Helper()
	bridge, err := netlink.LinkByName("banger0")
	must(t, err)
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all)
	must(t, err)
	w := &wire{t: t, tap: openTap(t, tap), seen: os.NewFile(uintptr(fd), "packets")}
	t.Cleanup(func() { _ = errors.Join(w.tap.Close(), w.seen.Close()) })
	must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: bridge.Attrs().Index}))
	return w
}

// passing returns the names of the frames that reach the bridge.
func (w *wire) passing(frames map[string][]byte) []string {
	w.t.Helper()
	marks := map[string]string{}
	send := func(name string, f []byte) {
		mark := fmt.Sprintf("<frame %03d>", len(marks))
		if marks[mark] = name; len(mark) != markSize {
			w.t.Fatalf("the mark %q has another size", mark)
		}
		const vnetHeader = 10 // struct virtio_net_hdr, no offloads
		_, err := w.tap.Write(slices.Concat(make([]byte, vnetHeader), f, []byte(mark)))
		must(w.t, err)
	}
	for name, f := range frames {
		send(name, f)
	}
	a := netip.MustParseAddr(addrA)
	last := "the last one, which is honest"
	send(last, frame(everybody, hardwareAddr(a), unix.ETH_P_ARP, nil, arpPayload(1, hardwareAddr(a), a)))

	must(w.t, w.seen.SetReadDeadline(time.Now().Add(allowedTimeout)))
	var names []string
	for buf := make([]byte, 2048); ; {
		size, err := w.seen.Read(buf)
		must(w.t, err)
		for mark, name := range marks {
			if bytes.HasSuffix(buf[:size], []byte(mark)) {
				names = append(names, name)
			}
		}
		if slices.Contains(names, last) {
			slices.Sort(names)
			return slices.DeleteFunc(names, func(name string) bool { return name == last })
		}
	}
}

// TestVMPosesAsAnother has one VM take the other's addresses as root of that
// VM would, with the kernel's own means.
func TestVMPosesAsAnother(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := newLab(t)
	l.a.serve(":81", "A")
	l.b.serve(":81", "B")
	whoIs := func(addr string) string {
		t.Helper()
		reply, err := dialTCP("", addr+":81", allowedTimeout)
		if err != nil {
			t.Errorf("the host to %s: %v", addr, err)
		}
		return reply
	}
	pose := func(mac, addr string) {
		t.Helper()
		l.a.do(func() error { return readdress(mac, addr) })
		// The kernel announces the address by itself, too (arp_notify is off by
		// default); what a connection attempt sends is enough to be learnt.
		if reply, err := l.a.dial("", "172.16.0.1:53", blockedTimeout); err == nil {
			t.Errorf("posing as %s, %s a VM is answered: %q", mac, addr, reply)
		}
		if reply, err := l.a.dial("", "203.0.113.2:80", blockedTimeout); err == nil {
			t.Errorf("posing as %s, %s a VM reaches the internet: %q", mac, addr, reply)
		}
		for range 3 {
			if got := whoIs(addrB); got != "B" {
				t.Errorf("posing as %s, %s: at %s is %q", mac, addr, addrB, got)
			}
		}
		if _, err := l.b.dial("", "203.0.113.2:80", allowedTimeout); err != nil {
			t.Errorf("posing as %s, %s: the other VM has no network: %v", mac, addr, err)
		}
	}
	macA, macB := MAC(netip.MustParseAddr(addrA)), MAC(netip.MustParseAddr(addrB))
	pose(macA, addrB)
	pose(macB, addrA)
	pose(macB, addrB)
	pose(macA, "172.16.0.1")

	l.a.do(func() error { return readdress(macA, addrA) })
	if got := whoIs(addrA); got != "A" {
		t.Errorf("back at its own address is %q", got)
	}
	if _, err := l.a.dial("", "203.0.113.2:80", allowedTimeout); err != nil {
		t.Errorf("a VM that has its address again: %v", err)
	}
}

// readdress gives eth0 other addresses and announces them.
func readdress(mac, addr string) error {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	old, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, a := range old {
		if err := netlink.AddrDel(link, &a); err != nil {
			return err
		}
	}
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	err = errors.Join(netlink.LinkSetDown(link), netlink.LinkSetHardwareAddr(link, hw))
	err = errors.Join(err, writeSysctl("/proc/sys/net/ipv4/conf/eth0/arp_notify", "1"))
	prefix := netip.PrefixFrom(netip.MustParseAddr(addr), 24)
	gateway := testConfig().Gateway
	if addr == gateway.String() {
		gateway = gateway.Next()
	}
	return errors.Join(err, configure("eth0", prefix, gateway))
}

// serve answers every client with the same words.
func (h *host) serve(addr, words string) {
	h.t.Helper()
	h.do(func() error {
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			return err
		}
		h.t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, words)
				_ = c.Close()
			}
		}()
		return nil
	})
}

// TestAttachTapPutsRight: a VM that an older banger started has a tap without
// any of this.
func TestAttachTapPutsRight(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needTun(t)
	n := testNetwork()
	must(t, n.bringUp(t.Context()))
	bridge, err := n.findBridge()
	must(t, err)
	for _, name := range []string{tapA, tapB} {
		tap, err := n.createTap(name)
		must(t, err)
		must(t, netlink.LinkSetMaster(tap, bridge))
		must(t, netlink.LinkSetUp(tap))
		// The bridge has learnt addresses at the wrong port.
		for _, addr := range []string{addrA, addrB} {
			_ = netlink.NeighSet(&netlink.Neigh{LinkIndex: tap.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER,
				State: netlink.NUD_REACHABLE, HardwareAddr: hardwareAddr(netip.MustParseAddr(addr))})
		}
	}
	attach(t, n, tapA, addrA)
	attach(t, n, tapB, addrB)
	checkKernelState(t)
	for name, addr := range map[string]string{tapA: addrA, tapB: addrB} {
		link, err := netlink.LinkByName(name)
		must(t, err)
		entries, err := netlink.NeighList(link.Attrs().Index, unix.AF_BRIDGE)
		must(t, err)
		mac := hardwareAddr(netip.MustParseAddr(addr))
		if !slices.ContainsFunc(entries, func(e netlink.Neigh) bool {
			return bytes.Equal(e.HardwareAddr, mac) && e.State&netlink.NUD_NOARP != 0
		}) {
			t.Errorf("%s isn't where the bridge looks for it: %v", addr, entries)
		}
	}
}

func TestKernelWithoutPortRules(t *testing.T) {
	err := explainPort(fmt.Errorf("load nftables table x: %w", os.NewSyscallError("netlink receive", unix.EOPNOTSUPP)))
	var e *api.Error
	if !errors.As(err, &e) || e.Code != api.CodeHost || e.Hint == "" {
		t.Errorf("got %#v", err)
	}
	if err := explainPort(unix.EPERM); !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v", err)
	}
}
