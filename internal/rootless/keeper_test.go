package rootless

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// machine is a network namespace that stands for the host's, on which a plain
// user has a VM.
//
//	outside 198.51.100.2 ── lan 198.51.100.1 machine, pasta ── 172.16.0.1 ── VM .2
type machine struct {
	t           *testing.T
	ns, outside netns.NsHandle
	user        *plainUser
	ask         io.Writer
	answers     *bufio.Scanner
}

// The first thread can't end. Were it moved to another namespace, /proc/net
// would be that one's for the whole process.
func init() { runtime.LockOSThread() }

const forwardingFile = "/proc/sys/net/ipv4/ip_forward" // of the reader's namespace

const service = ":8080" // on every address of machine and outside

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a network namespace that stands for the host's needs root")
	}
	needNamespaces(t)
	m := &machine{t: t, ns: newNetNS(t), outside: newNetNS(t), user: newPlainUser(t)}
	m.user.endAtCleanup()
	onThread(t, m.ns, func() error {
		lan := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(m.outside)}
		docker := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "docker0"}}
		return errors.Join(netlink.LinkAdd(lan), netlink.LinkAdd(docker), netlink.LinkSetUp(docker))
	})
	onThread(t, m.outside, func() error { return configure("eth0", "198.51.100.2/24", netip.Addr{}) })
	onThread(t, m.ns, func() error { return configure("lan", "198.51.100.1/24", netip.MustParseAddr("198.51.100.2")) })
	for _, ns := range []netns.NsHandle{m.ns, m.outside} {
		onThread(t, ns, func() error {
			l, err := net.Listen("tcp4", service)
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = l.Close() })
			go greet(l)
			return nil
		})
	}
	m.startGuest()
	return m
}

// newNetNS makes a network namespace with its loopback up.
func newNetNS(t *testing.T) netns.NsHandle {
	t.Helper()
	var ns netns.NsHandle
	onThread(t, netns.None(), func() (err error) {
		if ns, err = netns.New(); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetUp(lo), os.WriteFile(forwardingFile, []byte("0"), 0o644))
	})
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// onThread runs f on a thread in the namespace, which ends with it. Sockets and
// processes that f makes stay there.
func onThread(t *testing.T, ns netns.NsHandle, f func() error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if ns.IsOpen() {
			if err := netns.Set(ns); err != nil {
				ended <- err
				return
			}
		}
		ended <- f()
	}()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func (m *machine) startGuest() {
	m.t.Helper()
	cmd := m.user.command("guest")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	cmd.Cancel = func() error { _ = stdin.Close(); return os.ErrProcessDone } // so it ends by itself
	onThread(m.t, m.ns, cmd.Start)
	m.t.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			m.t.Errorf("guest: %v\n%s", err, m.user.log())
		}
	})
	m.ask, m.answers = stdin, bufio.NewScanner(stdout)
	if !m.answers.Scan() || m.answers.Text() != "ready" {
		m.t.Fatalf("the guest didn't start: %s", m.user.log())
	}
}

// reaches tells whether the guest is greeted at an address in time.
func (m *machine) reaches(addr string, timeout time.Duration) bool {
	m.t.Helper()
	if _, err := fmt.Fprintln(m.ask, addr+service, timeout); err != nil {
		m.t.Fatal(err)
	}
	if !m.answers.Scan() {
		m.t.Fatalf("the guest ended: %s", m.user.log())
	}
	return m.answers.Text() == "true"
}

// wantReached fails unless the guest reaches an address before long.
func (m *machine) wantReached(when, addr string) {
	m.t.Helper()
	m.eventually(func() bool { return m.reaches(addr, time.Second) }, "%s the guest doesn't reach %s", when, addr)
}

func (m *machine) wantBlocked(when string, addrs ...string) {
	m.t.Helper()
	for _, addr := range addrs {
		if m.reaches(addr, blockTimeout) {
			m.t.Errorf("%s the guest reaches %s", when, addr)
		}
	}
}

func (m *machine) eventually(done func() bool, format string, args ...any) {
	m.t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); {
		if time.Now().After(deadline) {
			m.t.Fatalf(format+"\n%s", append(args, m.user.log())...)
		}
		runtime.Gosched()
	}
}

// blocked waits until the namespaces' rules know just these addresses.
func (m *machine) blocked(want []string) {
	m.t.Helper()
	m.eventually(func() bool {
		var got []string
		// A look by way of Enter would start a new keeper.
		out, err := m.user.inside(m.user.state().Holder, "look").Output()
		if err != nil {
			m.t.Fatalf("%v\n%s", err, m.user.log())
		}
		got = strings.Fields(string(out))
		return slices.Equal(got, sorted(want))
	}, "other addresses than %v are blocked", want)
}

func (m *machine) address(change func(netlink.Link, *netlink.Addr) error, addrs ...string) {
	m.t.Helper()
	onThread(m.t, m.ns, func() error {
		link, err := netlink.LinkByName("docker0")
		if err != nil {
			return err
		}
		for _, addr := range addrs {
			local, peer, _ := strings.Cut(addr, " peer ")
			a, err := netlink.ParseAddr(local)
			if err != nil {
				return err
			}
			if peer != "" {
				if a.Peer, err = netlink.ParseIPNet(peer); err != nil {
					return err
				}
			}
			if err := change(link, a); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestHostAddressesThatAppearLater: a VM can't reach a service of the host's on
// an address that the host got after everything had started.
func TestHostAddressesThatAppearLater(t *testing.T) {
	m := newMachine(t)
	m.wantReached("from the beginning", "198.51.100.2")
	m.wantBlocked("from the beginning", "198.51.100.1")

	m.address(netlink.AddrAdd, "10.77.0.1/24", "10.77.1.1/32 peer 10.77.1.2/32", "10.77.2.1/24")
	m.blocked([]string{"198.51.100.1", "10.77.0.1", "10.77.1.1", "10.77.2.1"})
	m.wantBlocked("after it appeared", "10.77.0.1", "10.77.1.1", "10.77.2.1")
	m.wantReached("with new addresses on the host", "198.51.100.2")

	m.address(netlink.AddrDel, "10.77.2.1/24")
	m.blocked([]string{"198.51.100.1", "10.77.0.1", "10.77.1.1"})

	var many []string
	for i := range 500 {
		many = append(many, fmt.Sprintf("10.78.%d.%d/32", i/250, i%250+1))
	}
	m.address(netlink.AddrAdd, many...)
	want := []string{"198.51.100.1", "10.77.0.1", "10.77.1.1"}
	for _, a := range many {
		want = append(want, strings.TrimSuffix(a, "/32"))
	}
	m.blocked(want)
	m.wantBlocked("after many appeared", "10.78.1.250")

	// It is the keeper that does it, and the next one makes up for its absence.
	if err := m.user.state().Keeper.end(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.address(netlink.AddrAdd, "10.79.0.1/24")
	m.wantReached("without a keeper", "10.79.0.1")
	m.wantBlocked("without a keeper", "10.77.0.1")
	onThread(t, m.ns, func() error { return m.user.command("enter").Run() })
	m.wantBlocked("after another start of bangerd", "10.79.0.1")
}

// TestPastaIsMended: VMs get their network back when pasta has died.
func TestPastaIsMended(t *testing.T) {
	m := newMachine(t)
	m.wantReached("from the beginning", "198.51.100.2")
	for range 2 {
		first := m.user.state()
		if err := unix.Kill(first.Pasta.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		m.eventually(func() bool { s := m.user.state(); return s.Pasta != first.Pasta && s.Pasta.alive() }, "pasta isn't started again")
		if s := m.user.state(); s.Holder != first.Holder || s.Keeper != first.Keeper {
			t.Errorf("state %+v, before %+v", s, first)
		}
		m.wantReached("after pasta's death", "198.51.100.2")
		m.wantBlocked("after pasta's death", "198.51.100.1")
		if want := fmt.Sprintf("pasta has ended, so that VMs have no network; it is started again\" pid=%d", first.Pasta.PID); !strings.Contains(m.user.log(), want) {
			t.Errorf("the log doesn't tell of pasta's death:\n%s", m.user.log())
		}
	}
	if got := Problems(m.user.layout); len(got) > 0 {
		t.Errorf("problems: %q", got)
	}
}

// TestNetworkThatComesLater: VMs on a host without a network get one when the
// host does.
func TestNetworkThatComesLater(t *testing.T) {
	m := newMachine(t)
	m.wantReached("from the beginning", "198.51.100.2")
	onThread(t, m.ns, func() error {
		lan, err := netlink.LinkByName("lan")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(lan)
	})
	first := m.user.state()
	if err := first.Pasta.end(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.eventually(func() bool { return strings.Contains(m.user.log(), errNoNetwork.Error()) }, "the log doesn't tell that there is no network")
	if got := Problems(m.user.layout); len(got) != 1 {
		t.Errorf("problems: %q", got)
	}
	m.wantBlocked("without a network", "198.51.100.2")
	onThread(t, m.ns, func() error {
		lan, err := netlink.LinkByName("lan")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetUp(lan),
			netlink.RouteAdd(&netlink.Route{LinkIndex: lan.Attrs().Index, Gw: net.ParseIP("198.51.100.2")}))
	})
	m.address(netlink.AddrAdd, "10.77.0.1/24") // that is what tells the keeper
	m.wantReached("with a network again", "198.51.100.2")
}

// TestForwardingOfTheHostIsKept: what is switched on inside isn't outside.
func TestForwardingOfTheHostIsKept(t *testing.T) {
	m := newMachine(t)
	m.wantReached("through the namespaces", "198.51.100.2")
	onThread(t, m.ns, func() error {
		forwarding, err := os.ReadFile(forwardingFile)
		if err == nil && strings.TrimSpace(string(forwarding)) != "0" {
			t.Errorf("the host's ip_forward is %s", forwarding)
		}
		return err
	})
}
