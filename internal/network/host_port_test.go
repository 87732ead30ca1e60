package network

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"banger/internal/conntest"
)

// listenLoopback answers on the host's loopback alone, with who asks, and
// returns the port.
func listenLoopback(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	conntest.Serve(t, l, func(conn net.Conn) {
		_, _ = conn.Write([]byte("loopback"))
		_ = conn.Close()
	})
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func gatewayPort(port uint16) string { return "172.16.0.1:" + strconv.Itoa(int(port)) }

// A VM reaches the ports of the host that it was given, nothing else does, and
// it no others.
func TestHostPorts(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := newLab(t) // in which the host serves port 80 on every address
	a, b := netip.MustParseAddr(addrA), netip.MustParseAddr(addrB)
	given, other := listenLoopback(t), listenLoopback(t)
	reaches := func(from *host, port uint16, d time.Duration) bool {
		_, err := from.dial("", gatewayPort(port), d)
		return err == nil
	}
	if reaches(l.a, given, blockedTimeout) {
		t.Error("a port is open that nobody was given")
	}
	must(t, l.n.setHostPorts(t.Context(), a, []uint16{given, 80}))
	if got, err := l.a.dial("", gatewayPort(given), allowedTimeout); err != nil || got != "loopback" {
		t.Errorf("the VM's port: got %q, %v", got, err)
	}
	if _, err := l.a.dial("", gatewayPort(80), allowedTimeout); err != nil {
		t.Errorf("a port that a program has on every address: %v", err)
	}
	check := func() {
		t.Helper()
		for what, open := range map[string]bool{
			"another VM":              reaches(l.b, given, blockedTimeout),
			"another port":            reaches(l.a, other, blockedTimeout),
			"the outside":             reaches(l.outside, given, blockedTimeout),
			"another VM, at the door": reaches(l.b, l.n.hostRules()[0].At, blockedTimeout),
		} {
			if open {
				t.Errorf("open to %s", what)
			}
		}
		if _, err := l.a.dial("", "203.0.113.1:"+strconv.Itoa(int(given)), blockedTimeout); err == nil {
			t.Error("open at another address of the host")
		}
	}
	check()

	// What brings the network up again keeps it, and each VM has its own.
	must(t, l.n.bringUp(t.Context()))
	must(t, l.n.setHostPorts(t.Context(), b, []uint16{other}))
	if !reaches(l.a, given, allowedTimeout) || !reaches(l.b, other, allowedTimeout) {
		t.Error("a port is closed after another VM was given one")
	}
	check()
	must(t, l.n.setHostPorts(t.Context(), a, nil))
	if reaches(l.a, given, blockedTimeout) || !reaches(l.b, other, allowedTimeout) {
		t.Error("taking one VM's port away does something else")
	}
	l.n.Close()
	must(t, l.n.takeDown(t.Context()))
	if left := l.n.hostRules(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A VM's connections end with it, and it can't have any number of them.
func TestHostConnections(t *testing.T) {
	h := &hostPorts{}
	vm := netip.MustParseAddr("127.0.0.1")
	h.set(vm, []uint16{7})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	connect := func() (client, server net.Conn) {
		client, err := net.Dial("tcp", l.Addr().String())
		must(t, err)
		server, err = l.Accept()
		must(t, err)
		t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
		return client, server
	}
	client, first := connect()
	if h.admit(first, 8) || !h.admit(first, 7) {
		t.Error("not the port that was given")
	}
	for range maxHostConns - 1 {
		if _, conn := connect(); !h.admit(conn, 7) {
			t.Fatal("refused too early")
		}
	}
	if _, conn := connect(); h.admit(conn, 7) {
		t.Error("one too many")
	}
	h.forget(first)
	_, again := connect()
	if !h.admit(again, 7) {
		t.Error("what has ended counts")
	}
	h.set(vm, nil)
	must(t, client.SetReadDeadline(time.Now().Add(allowedTimeout)))
	if _, err := again.Write([]byte("x")); err == nil {
		t.Error("a connection outlives its VM's permission")
	}
	if _, conn := connect(); h.admit(conn, 7) {
		t.Error("a VM without ports has one")
	}
}
