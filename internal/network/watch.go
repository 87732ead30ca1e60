package network

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"banger/internal/guard"
)

// watched are the kernel's messages of changes by which a VM can lose its
// network, or the rules that keep it in.
var watched = []struct {
	protocol int
	groups   uint32 // a bit for each
}{
	{unix.NETLINK_ROUTE, unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR},
	{unix.NETLINK_NETFILTER, 1 << (unix.NFNLGRP_NFTABLES - 1)},
}

// Watch returns a channel that gets a value after changes of the host's links,
// addresses and rules, banger's own among them, until ctx ends. What has changed
// isn't told: Mend finds out.
func (n *Network) Watch(ctx context.Context) (<-chan struct{}, error) {
	changes := make(chan struct{}, 1)
	var sockets []*os.File
	for _, w := range watched {
		socket, err := listenNetlink(w.protocol, w.groups)
		if err != nil {
			for _, s := range sockets {
				_ = s.Close()
			}
			return nil, fmt.Errorf("watch the host's network: %w", err)
		}
		sockets = append(sockets, socket)
	}
	for _, socket := range sockets {
		context.AfterFunc(ctx, guard.Func("end the watch of the network", func() { _ = socket.Close() }))
		guard.Go("watch the host's network", func() { n.readChanges(ctx, socket, changes) })
	}
	return changes, nil
}

// readChanges tells of every message; what it says nobody needs.
func (n *Network) readChanges(ctx context.Context, socket *os.File, changes chan<- struct{}) {
	message := make([]byte, 1<<12) // the rest is cut off
	for {
		// More messages than the socket can hold are changes as well.
		if _, err := socket.Read(message); err != nil && !errors.Is(err, unix.ENOBUFS) {
			if ctx.Err() == nil {
				n.log.ErrorContext(ctx, "changes of the host's network aren't noticed at once any more", "err", err)
			}
			return
		}
		select {
		case changes <- struct{}{}:
		default:
		}
	}
}

// listenNetlink opens a socket that gets the messages of some groups, see
// netlink(7).
func listenNetlink(protocol int, groups uint32) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to netlink messages: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}
