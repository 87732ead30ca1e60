package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// lab is a host with banger's network, two VMs on it, and an outside.
//
//	outside 203.0.113.2 ── 203.0.113.1 here 172.16.0.1 ── A .5, B .6
type lab struct {
	n             *Network
	a, b, outside *host
}

func newLab(t *testing.T) *lab {
	t.Helper()
	needTun(t)
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))

	l := &lab{outside: newHost(t)}
	// The way out is narrower than the VMs' and the far end's interfaces.
	wan := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "wan", MTU: 1400},
		PeerName:  "eth0", PeerMTU: 1500, PeerNamespace: netlink.NsFd(l.outside.ns),
	}
	must(t, netlink.LinkAdd(wan))
	must(t, configure("wan", netip.MustParsePrefix("203.0.113.1/24"), netip.Addr{}))
	l.outside.do(func() error {
		if err := configure("eth0", netip.MustParsePrefix("203.0.113.2/24"), netip.Addr{}); err != nil {
			return err
		}
		for _, other := range []string{"203.0.113.77/24", "169.254.169.254/32"} {
			if err := configure("eth0", netip.MustParsePrefix(other), netip.Addr{}); err != nil {
				return err
			}
		}
		// It knows the way to the VMs, so that only rules can be in it.
		return errors.Join(route("172.16.0.0/24", "203.0.113.1"), route("198.51.100.7/32", "203.0.113.1"))
	})
	must(t, route("0.0.0.0/0", "203.0.113.2"))

	must(t, Block([]netip.Addr{netip.MustParseAddr("203.0.113.77")}))
	l.n = testNetwork()
	must(t, l.n.bringUp(t.Context()))
	attach(t, l.n, tapA, addrA)
	attach(t, l.n, tapB, addrB)
	l.a, l.b = newGuest(t, tapA, addrA), newGuest(t, tapB, addrB)
	l.outside.listen(":80")
	l.b.listen(":80")
	must(t, serveTCP(t, ":80"))
	return l
}

const (
	allowedTimeout = 15 * time.Second
	blockedTimeout = 300 * time.Millisecond
)

func TestTraffic(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := newLab(t)
	reply, err := l.a.dial("", "203.0.113.2:80", allowedTimeout)
	if err != nil || reply != "203.0.113.1 1348" { // 1400 - 40 of headers - 12 of time stamps
		t.Errorf("VM to the internet: got %q, %v", reply, err)
	}
	if reply, err := dialTCP("", addrB+":80", allowedTimeout); err != nil {
		t.Errorf("host to VM: got %q, %v", reply, err)
	}
	must(t, ping(l.a, "172.16.0.1"))

	l.a.do(func() error { return configure("eth0", netip.MustParsePrefix("198.51.100.7/32"), netip.Addr{}) })
	blocked := map[string]func(time.Duration) (string, error){
		"VM to the host's service at the gateway":  func(d time.Duration) (string, error) { return l.a.dial("", "172.16.0.1:80", d) },
		"VM to the host's service at another addr": func(d time.Duration) (string, error) { return l.a.dial("", "203.0.113.1:80", d) },
		"VM to an address of the host elsewhere":   func(d time.Duration) (string, error) { return l.a.dial("", "203.0.113.77:80", d) },
		"VM to a cloud's metadata":                 func(d time.Duration) (string, error) { return l.a.dial("", "169.254.169.254:80", d) },
		"VM to the internet with a false source":   func(d time.Duration) (string, error) { return l.a.dial("198.51.100.7", "203.0.113.2:80", d) },
		"the outside to a VM":                      func(d time.Duration) (string, error) { return l.outside.dial("", addrB+":80", d) },
		"the outside to the gateway's address":     func(d time.Duration) (string, error) { return l.outside.dial("", "172.16.0.1:80", d) },
		"VM to a VM":                               func(d time.Duration) (string, error) { return l.a.dial("", addrB+":80", d) },
	}
	for what, dial := range blocked {
		if reply, err := dial(blockedTimeout); err == nil {
			t.Errorf("%s passes: %q", what, reply)
		}
	}
	detour := func(change func(dst, via string) error) {
		l.a.do(func() error { return change(addrB+"/32", "172.16.0.1") })
		l.b.do(func() error { return change(addrA+"/32", "172.16.0.1") })
	}
	detour(route)
	if _, err := l.a.dial("", addrB+":80", blockedTimeout); err == nil {
		t.Error("a VM reaches another one by way of the host")
	}
	detour(unroute)

	// What was blocked was blocked by the rules and the isolation, not by a
	// broken lab.
	must(t, Render(l.n.config()).remove())
	must(t, Block(nil))
	must(t, RenderPort(tapA, netip.MustParseAddr(addrA)).remove())
	if _, err := l.a.dial("", addrB+":80", blockedTimeout); err == nil {
		t.Error("isolation alone doesn't keep a VM from another one")
	}
	setIsolated(t, false)
	must(t, route("198.51.100.7/32", addrA))
	for what, dial := range blocked {
		// What failed before is remembered for a while (ARP).
		_, err := dial(allowedTimeout)
		for deadline := time.Now().Add(allowedTimeout); err != nil && time.Now().Before(deadline); {
			_, err = dial(time.Second)
		}
		if err != nil {
			t.Errorf("without rules, %s: %v", what, err)
		}
	}
}

func setIsolated(t *testing.T, isolated bool) {
	t.Helper()
	for _, name := range []string{tapA, tapB} {
		link, err := netlink.LinkByName(name)
		must(t, err)
		must(t, netlink.LinkSetIsolated(link, isolated))
	}
}

func TestDNSForVMs(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := newLab(t)
	web := netip.MustParseAddr(addrB)
	lookup := func(name string) (netip.Addr, bool) { return web, name == "web" }
	reverse := func(addr netip.Addr) (string, bool) { return "web", addr == web }
	l.n.SetNames(lookup, reverse)
	ctx, cancel := context.WithCancel(t.Context())
	must(t, l.n.bringUp(ctx))
	cancel() // the server must not end with the call that started it
	must(t, l.n.bringUp(t.Context()))

	query := new(dns.Msg).SetQuestion("web.banger.", dns.TypeA)
	ask := func(from *host, network string, timeout time.Duration) (reply *dns.Msg, err error) {
		client := &dns.Client{Net: network, Timeout: timeout}
		from.do(func() error { reply, _, err = client.Exchange(query, "172.16.0.1:53"); return nil })
		return reply, err
	}
	for _, network := range []string{"udp", "tcp"} {
		if reply, err := ask(l.a, network, allowedTimeout); err != nil || summary(reply) != "NOERROR "+addrB {
			t.Errorf("VM by %s: %v, %v", network, reply, err)
		}
		if reply, err := ask(l.outside, network, blockedTimeout); err == nil {
			t.Errorf("the outside is answered by %s: %v", network, reply)
		}
	}

	other := testNetwork()
	other.SetNames(lookup, reverse)
	if err := other.startDNS(t.Context()); !errors.Is(err, api.ErrHost) {
		t.Errorf("a second server: %v", err)
	}
	l.n.Close()
	if reply, err := ask(l.a, "tcp", allowedTimeout); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after Close: %v, %v", reply, err)
	}
}

// ping sends one ICMP echo request.
func ping(from *host, to string) (err error) {
	from.do(func() error {
		var c net.Conn
		if c, err = net.DialTimeout("ip4:icmp", to, allowedTimeout); err != nil {
			return nil
		}
		defer c.Close()
		// Type 8, code 0, checksum, identifier 0, sequence number 0 (RFC 792).
		if _, err = c.Write([]byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}); err != nil {
			return nil
		}
		if err = c.SetReadDeadline(time.Now().Add(allowedTimeout)); err != nil {
			return nil
		}
		_, err = c.Read(make([]byte, 64))
		return nil
	})
	return err
}
