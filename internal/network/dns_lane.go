package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A guest must not be able to take DNS from the others, however much it asks.
// So there are as many sockets as lanes, and the kernel gives a packet or a
// connection to one by its source address: what waits for bangerd waits in its
// own guest's queue, and overflows there. Everything that a query may use up is
// bounded for each lane, and so for all.
//
// Guests whose addresses are a multiple of maxLanes apart share a lane.
// Addresses are given from the lowest, so that happens only where more than
// maxLanes VMs exist at once.
const (
	maxLanes = 64
	// laneForwards bounds a lane's queries that wait for an upstream server.
	laneForwards = 16
	// laneConns bounds a lane's TCP connections, and acceptBacklog those that
	// the kernel has accepted meanwhile.
	laneConns     = 8
	acceptBacklog = 8
	// A lane has queryRate queries or connections a second, and queryBurst at
	// once. More are left in the kernel's queue.
	queryRate  = 1000
	queryBurst = 500
)

// lane is the share of one guest.
type lane struct {
	udp      *net.UDPConn
	tcp      *net.TCPListener
	forwards chan struct{} // a slot for each
	conns    chan struct{}
	pace     pacer
}

// listenDNS opens the lanes' sockets. It fails with EADDRINUSE if somebody
// listens on the address.
func listenDNS(ctx context.Context, addr netip.AddrPort) ([]*lane, error) {
	if err := probeFree(ctx, addr); err != nil {
		return nil, err
	}
	var lanes []*lane
	for range maxLanes {
		l, err := listenLane(ctx, addr.String())
		if err != nil {
			return nil, errors.Join(err, closeLanes(lanes))
		}
		lanes = append(lanes, l)
	}
	// The program belongs to all sockets of the address; which one it chooses
	// goes by the order in which they were bound.
	if err := errors.Join(steer(lanes[0].udp), steer(lanes[0].tcp)); err != nil {
		return nil, errors.Join(err, closeLanes(lanes))
	}
	return lanes, nil
}

// probeFree fails if somebody listens on the address. Sockets that share it
// would not be told of another process of the same user that shares it too.
func probeFree(ctx context.Context, addr netip.AddrPort) error {
	var lc net.ListenConfig
	tcp, err := lc.Listen(ctx, "tcp4", addr.String())
	if err != nil {
		return err
	}
	udp, err := lc.ListenPacket(ctx, "udp4", addr.String())
	if err != nil {
		return errors.Join(err, tcp.Close())
	}
	return errors.Join(udp.Close(), tcp.Close())
}

func listenLane(ctx context.Context, addr string) (*lane, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return setSockopt(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}}
	lc.SetMultipathTCP(false) // its sockets can't be steered
	udp, err := lc.ListenPacket(ctx, "udp4", addr)
	if err != nil {
		return nil, err
	}
	tcp, err := lc.Listen(ctx, "tcp4", addr)
	if err != nil {
		return nil, errors.Join(err, udp.Close())
	}
	l := &lane{
		udp: udp.(*net.UDPConn), tcp: tcp.(*net.TCPListener),
		forwards: make(chan struct{}, laneForwards), conns: make(chan struct{}, laneConns),
	}
	raw, err := l.tcp.SyscallConn()
	if err == nil {
		err = setSockopt(raw, func(fd int) error { return unix.Listen(fd, acceptBacklog) })
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bound the connections that wait: %w", err), l.close())
	}
	return l, nil
}

func (l *lane) close() error { return errors.Join(l.udp.Close(), l.tcp.Close()) }

func closeLanes(lanes []*lane) error {
	var errs []error
	for _, l := range lanes {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}

// steer makes the kernel choose among the sockets of an address by the sender's
// address (SO_ATTACH_REUSEPORT_CBPF in socket(7)).
func steer(socket syscall.Conn) error {
	const (
		netHeader    = 0xfff00000 // SKF_NET_OFF of linux/filter.h
		sourceOffset = 12         // in the IPv4 header
	)
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: netHeader + sourceOffset},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: maxLanes},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	raw, err := socket.SyscallConn()
	if err == nil {
		err = setSockopt(raw, func(fd int) error {
			return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &program)
		})
	}
	if err != nil {
		return fmt.Errorf("give each guest a queue of its own: %w", err)
	}
	return nil
}

func setSockopt(c syscall.RawConn, set func(fd int) error) error {
	var setErr error
	err := c.Control(func(fd uintptr) { setErr = set(int(fd)) })
	return errors.Join(err, setErr)
}

// pacer holds a lane to queryRate.
type pacer struct {
	mu  sync.Mutex
	due time.Time // when the next query would come at an even pace
}

// wait counts a query and sleeps if there were too many.
func (p *pacer) wait() {
	const (
		interval = time.Second / queryRate
		// Sleeping seldom and longer wakes bangerd less often.
		step = 10 * time.Millisecond
	)
	p.mu.Lock()
	now := time.Now()
	if earliest := now.Add(-queryBurst * interval); p.due.Before(earliest) {
		p.due = earliest
	}
	p.due = p.due.Add(interval)
	ahead := p.due.Sub(now)
	p.mu.Unlock()
	if ahead > step {
		time.Sleep(ahead)
	}
}
