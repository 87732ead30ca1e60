package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/guard"
)

const (
	// DNSPort is that at the gateway's address where guests' queries are answered.
	DNSPort = 53
	// Domain is where VMs have their names; a VM's bare name works as well.
	Domain = "banger"
	// hostName in Domain is the gateway's name.
	hostName = "host"
	// ttl of own answers, in seconds: a name can soon belong to another VM.
	ttl = 5
)

// LookupFunc finds the address of the VM with this name (lower case). It is
// called for every query of every guest, so it must answer from memory.
type LookupFunc func(name string) (netip.Addr, bool)

// ReverseFunc finds the name of the VM with this address, from memory as well.
type ReverseFunc func(addr netip.Addr) (string, bool)

// dnsService is a DNS server that runs.
type dnsService struct {
	cancel context.CancelFunc
	ended  <-chan error
}

// startDNS answers on port 53 of the gateway, by UDP and TCP, unless that
// happens already. Names and addresses of VMs are answered here, all else by
// the upstream servers.
func (n *Network) startDNS(ctx context.Context) error {
	if n.lookup == nil || n.dns != nil {
		return nil
	}
	addr := netip.AddrPortFrom(n.config().Gateway, DNSPort)
	lanes, err := listenDNS(ctx, addr)
	if errors.Is(err, unix.EADDRINUSE) {
		return api.Errorf(api.CodeHost, "another DNS server listens on %s, the address of banger's bridge", addr).
			WithHint("keep it off the interface %s (dnsmasq: except-interface=%s and bind-dynamic)", n.config().Bridge, n.config().Bridge)
	}
	if err != nil {
		return fmt.Errorf("listen for DNS queries: %w", err)
	}
	// The server outlives the call that brings the network up.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h := newDNSHandler(n.config(), n.log, n.lookup, n.reverse)
	ended := guard.Start("serve DNS", func() error {
		h.serve(ctx, lanes)
		return nil
	})
	n.dns = &dnsService{cancel: cancel, ended: ended}
	return nil
}

// stopDNS returns when the sockets are closed.
func (n *Network) stopDNS() {
	if n.dns == nil {
		return
	}
	n.dns.cancel()
	if err := <-n.dns.ended; err != nil {
		n.log.Error("DNS ended by itself", "err", err)
	}
	n.dns = nil
}

// dnsHandler answers queries.
type dnsHandler struct {
	cfg       Config
	log       *slog.Logger
	lookup    LookupFunc
	reverse   ReverseFunc
	upstreams func() []netip.AddrPort
	timeout   time.Duration  // for one upstream server
	inAll     time.Duration  // see forwardTimeout
	slotWait  time.Duration  // see slotWait
	idle      time.Duration  // of a TCP connection
	running   sync.WaitGroup // all of serve's goroutines
}

func newDNSHandler(cfg Config, log *slog.Logger, lookup LookupFunc, reverse ReverseFunc) *dnsHandler {
	return &dnsHandler{
		cfg: cfg, log: log, lookup: lookup, reverse: reverse,
		upstreams: newUpstreams(cfg, log, "/etc/resolv.conf").list,
		timeout:   2 * time.Second,
		inAll:     forwardTimeout,
		slotWait:  slotWait,
		idle:      idleTimeout,
	}
}
