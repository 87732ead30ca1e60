package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"banger/internal/guard"
)

// InternalName is the name by which guests know the host; it has the gateway's
// address, where nothing but DNS answers until a VM is given a port.
const InternalName = "host.banger.internal"

// maxHostConns is how many connections to the host one VM may have at a time.
const maxHostConns = 256

// hostDialTimeout is how long the host may take to accept a connection.
const hostDialTimeout = 10 * time.Second

// HostDialer connects to a TCP port of the host's loopback.
type HostDialer func(ctx context.Context, port uint16) (*net.TCPConn, error)

// DialLoopback is the HostDialer of a bangerd that is in the host's network
// namespace. Some programs listen on one of the two loopback addresses only.
func DialLoopback(ctx context.Context, port uint16) (*net.TCPConn, error) {
	var d net.Dialer
	var errs []error
	for _, addr := range []string{"127.0.0.1", "::1"} {
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(addr, strconv.Itoa(int(port))))
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// HostPort is a port of the host's loopback that a VM may connect to, at the
// gateway's address.
type HostPort struct {
	VM   netip.Addr
	Port uint16
	// At is where bangerd listens for it. The kernel leads the VM's connections
	// there, since a program on the host may have Port on every address.
	At uint16
}

// hostPorts are the ports of the host that are open to VMs.
type hostPorts struct {
	listeners map[uint16]*net.TCPListener // by port of the host; Network.mu guards it

	mu    sync.Mutex
	vms   map[netip.Addr][]uint16
	conns map[net.Conn]netip.Addr // by VM
	tasks sync.WaitGroup
}

// setHostPorts lets the VM that has addr connect to these ports of the host's
// loopback, and to no others any more.
func (n *Network) setHostPorts(ctx context.Context, addr netip.Addr, ports []uint16) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &n.hosts
	if slices.Equal(ports, h.of(addr)) {
		return nil
	}
	for _, port := range ports {
		if err := n.listenForHost(ctx, port); err != nil {
			return err
		}
	}
	before := h.set(addr, ports)
	if err := n.load(Render(n.config(), n.hostRules()...)); err != nil {
		h.set(addr, before)
		return err
	}
	h.closeUnused()
	return nil
}

// hostRules are all open ports. The caller holds mu.
func (n *Network) hostRules() []HostPort {
	h := &n.hosts
	h.mu.Lock()
	defer h.mu.Unlock()
	var rules []HostPort
	for _, addr := range slices.SortedFunc(maps.Keys(h.vms), netip.Addr.Compare) {
		for _, port := range h.vms[addr] {
			if l := h.listeners[port]; l != nil {
				rules = append(rules, HostPort{addr, port, l.Addr().(*net.TCPAddr).AddrPort().Port()})
			}
		}
	}
	return rules
}

// listenForHost listens, at any port of the gateway's address, for connections
// to a port of the host.
func (n *Network) listenForHost(ctx context.Context, port uint16) error {
	h := &n.hosts
	if h.listeners[port] != nil {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", netip.AddrPortFrom(n.config().Gateway, 0).String())
	if err != nil {
		return fmt.Errorf("listen for connections to the host's port %d: %w", port, err)
	}
	if h.listeners == nil {
		h.listeners = make(map[uint16]*net.TCPListener)
	}
	tcp := l.(*net.TCPListener)
	h.listeners[port] = tcp
	h.tasks.Go(guard.Func("accept connections to the host", func() { n.acceptForHost(tcp, port) }))
	return nil
}

func (n *Network) acceptForHost(l *net.TCPListener, port uint16) {
	for {
		conn, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many files are open, say
			n.log.Error("accept a connection to the host", "port", port, "err", err)
			time.Sleep(time.Second)
			continue
		}
		if !n.hosts.admit(conn, port) {
			reset(conn)
			continue
		}
		n.hosts.tasks.Go(guard.Func("connect a VM to the host", func() {
			defer n.hosts.forget(conn)
			if err := n.connectToHost(conn, port); err != nil {
				n.log.Info("connect a VM to the host", "vm", conn.RemoteAddr(), "port", port, "err", err)
			}
		}))
	}
}

// connectToHost joins a connection of a VM to the host's port.
func (n *Network) connectToHost(conn *net.TCPConn, port uint16) error {
	ctx, cancel := context.WithTimeout(context.Background(), hostDialTimeout)
	defer cancel()
	host, err := n.dialHost(ctx, port)
	if err != nil {
		reset(conn)
		return err
	}
	defer host.Close()
	back := guard.Start("copy from the host to a VM", func() error { return copyHalf(conn, host) })
	if err := copyHalf(host, conn); err != nil {
		_ = conn.Close() // ends the other way, too
		_ = host.Close()
	}
	if err := <-back; err != nil { // the VM has seen its connection end
		n.log.Debug("copy from the host to a VM", "port", port, "err", err)
	}
	return nil
}

// copyHalf passes one direction on, with its end.
func copyHalf(to, from *net.TCPConn) error {
	_, err := io.Copy(to, from)
	if err == nil {
		return to.CloseWrite()
	}
	_ = to.Close()
	return err
}

// reset ends a connection as one does that nobody listens for.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

func (h *hostPorts) of(addr netip.Addr) []uint16 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.vms[addr]
}

// set gives a VM other ports and returns those that it had. Its connections to
// others end.
func (h *hostPorts) set(addr netip.Addr, ports []uint16) (before []uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before = h.vms[addr]
	if h.vms == nil {
		h.vms, h.conns = make(map[netip.Addr][]uint16), make(map[net.Conn]netip.Addr)
	}
	delete(h.vms, addr)
	if len(ports) > 0 {
		h.vms[addr] = slices.Clone(ports)
		return before
	}
	for conn, of := range h.conns {
		if of == addr {
			_ = conn.Close()
		}
	}
	return before
}

// admit notes a connection of a VM that may have it. The rules let no other one
// through; this is for one that was on its way when they changed.
func (h *hostPorts) admit(conn net.Conn, port uint16) bool {
	addr := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	h.mu.Lock()
	defer h.mu.Unlock()
	open := 0
	for _, of := range h.conns {
		if of == addr {
			open++
		}
	}
	if !slices.Contains(h.vms[addr], port) || open >= maxHostConns {
		return false
	}
	h.conns[conn] = addr
	return true
}

func (h *hostPorts) forget(conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, conn)
	_ = conn.Close()
}

// closeUnused ends the listening for ports that no VM has. Network.mu is held.
func (h *hostPorts) closeUnused() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for port, l := range h.listeners {
		used := false
		for _, ports := range h.vms {
			used = used || slices.Contains(ports, port)
		}
		if !used {
			_ = l.Close()
			delete(h.listeners, port)
		}
	}
}

// closeAll ends all listening and all connections. Network.mu is held.
func (h *hostPorts) closeAll() {
	h.mu.Lock()
	for _, l := range h.listeners {
		_ = l.Close()
	}
	h.listeners, h.vms = nil, nil
	for conn := range h.conns {
		_ = conn.Close()
	}
	h.mu.Unlock()
	h.tasks.Wait()
}
