package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"banger/internal/conntest"
)

// inNamespace runs the calling test again in a process with a user and a
// network namespace of its own, where it is root and can break nothing. It
// returns true there, and false here once that process has ended:
//
//	if !inNamespace(t) { return }
func inNamespace(t *testing.T) bool {
	t.Helper()
	const marker = "BANGER_TEST_NAMESPACE"
	if os.Getenv(marker) != "" {
		return true
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		t.Fatalf("in the namespace: %v\n%s", err, out)
	case err != nil:
		t.Skipf("SKIPPED: no user and network namespaces here: %v", err)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("SKIPPED in the namespace:\n%s", out)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Fatalf("the test did not run in the namespace:\n%s", out)
	}
	return false
}

// needTun skips where taps can't be made.
func needTun(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIPPED: no taps here: %v", err)
	}
	_ = f.Close()
}

// host is another network namespace with its own TCP/IP.
type host struct {
	t  *testing.T
	ns netns.NsHandle
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t}
	onThread(t, func() error {
		var err error
		if h.ns, err = netns.New(); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	t.Cleanup(func() { _ = h.ns.Close() })
	return h
}

// onThread runs f on a thread that it may move to another namespace; the
// thread ends with it.
func onThread(t *testing.T, f func() error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ended <- f()
	}()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// do runs f in the host's namespace; sockets made there stay there.
func (h *host) do(f func() error) {
	h.t.Helper()
	onThread(h.t, func() error {
		if err := netns.Set(h.ns); err != nil {
			return err
		}
		return f()
	})
}

// configure gives a link an address, brings it up and, if gateway is valid,
// routes everything there.
func configure(name string, addr netip.Prefix, gateway netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	ipnet := &net.IPNet{IP: addr.Addr().AsSlice(), Mask: net.CIDRMask(addr.Bits(), 32)}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipnet}); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	if !gateway.IsValid() {
		return nil
	}
	return route("0.0.0.0/0", gateway.String())
}

func route(dst, via string) error {
	_, ipnet, err := net.ParseCIDR(dst)
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{Dst: ipnet, Gw: net.ParseIP(via)})
}

// newGuest is a stand-in for a VM: a namespace whose eth0 is a tap, connected
// to the tap on the bridge by copying frames, as a VMM would.
func newGuest(t *testing.T, tap, addr string) *host {
	t.Helper()
	g := newHost(t)
	var inside *os.File
	prefix := netip.PrefixFrom(netip.MustParseAddr(addr), 24)
	g.do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "eth0"
		link := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: tapFlags, NonPersist: true, Queues: 1}
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		inside = link.Fds[0]
		if err := netlink.LinkSetHardwareAddr(link, hardwareAddr(prefix.Addr())); err != nil {
			return err
		}
		return configure("eth0", prefix, testConfig().Gateway)
	})
	outside := openTap(t, tap)
	for _, ends := range [][2]*os.File{{inside, outside}, {outside, inside}} {
		go func() { _, _ = io.CopyBuffer(writerOnly{ends[0]}, readerOnly{ends[1]}, make([]byte, 1<<16)) }()
	}
	t.Cleanup(func() { _ = errors.Join(inside.Close(), outside.Close()) })
	return g
}

// These hide what would make io.CopyBuffer do without its buffer: a frame must
// be read by one call.
type (
	writerOnly struct{ io.Writer }
	readerOnly struct{ io.Reader }
)

// openTap opens an existing tap with the flags that VMMs use.
func openTap(t *testing.T, name string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		t.Fatalf("open tap %s: %v", name, err)
	}
	return os.NewFile(uintptr(fd), name)
}

// listen serves TCP in the host: each client is told its address and the
// segment size towards it.
func (h *host) listen(addr string) {
	h.t.Helper()
	h.do(func() error { return serveTCP(h.t, addr) })
}

func serveTCP(t *testing.T, addr string) error {
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	conntest.Serve(t, l, func(c net.Conn) { greet(c.(*net.TCPConn)) })
	return nil
}

func greet(c *net.TCPConn) {
	defer c.Close()
	mss := 0
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { mss, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) })
	}
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	fmt.Fprintf(c, "%s %d", host, mss)
}

// dial connects from the host and returns what the server says.
func (h *host) dial(from, addr string, timeout time.Duration) (reply string, err error) {
	h.do(func() error {
		reply, err = dialTCP(from, addr, timeout)
		return nil
	})
	return reply, err
}

func dialTCP(from, addr string, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var d net.Dialer
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.DialContext(ctx, "tcp4", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	reply, err := io.ReadAll(c)
	return string(reply), err
}

func unroute(dst, via string) error {
	_, ipnet, err := net.ParseCIDR(dst)
	if err != nil {
		return err
	}
	return netlink.RouteDel(&netlink.Route{Dst: ipnet, Gw: net.ParseIP(via)})
}
