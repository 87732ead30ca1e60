package main

import (
	"context"
	"errors"
	"log/slog"
	stdnet "net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"banger/internal/api"
	"banger/internal/config"
	"banger/internal/daemon"
	"banger/internal/diskusage"
	"banger/internal/dockerbuild"
	"banger/internal/guard"
	"banger/internal/initramfs"
	"banger/internal/instance"
	"banger/internal/kernel"
	"banger/internal/network"
	"banger/internal/paths"
	"banger/internal/rootless"
	"banger/internal/sshkey"
	"banger/internal/store"
	"banger/internal/version"
	"banger/internal/vm"
	"banger/internal/workspace"
)

// wired is everything that bangerd consists of. This file is the only place
// that builds services and hands them to each other.
type wired struct {
	layout  paths.Layout
	db      *store.DB
	network *network.Network
	manager *vm.Manager
	server  *daemon.Server
}

func wire(ctx context.Context, layout paths.Layout, log *slog.Logger) (*wired, error) {
	cfg, err := config.Load(layout.ConfigFile())
	if err != nil {
		return nil, err
	}
	agent, err := findAgent()
	if err != nil {
		return nil, err
	}
	keyPath := cfg.SSHKeyPath
	if keyPath == "" {
		keyPath = layout.SSHKey()
	}
	userKey, err := sshkey.Ensure(keyPath)
	if err != nil {
		return nil, err
	}
	kernels, images := stores(cfg, layout, log)
	if err := errors.Join(kernels.Clean(ctx), images.Clean(ctx)); err != nil {
		return nil, err
	}
	if err := workspace.RemoveStale(); err != nil {
		log.Warn("remove what a killed bangerd has left", "err", err)
	}
	db, err := store.Open(ctx, layout.Database(), vm.Schema)
	if err != nil {
		return nil, err
	}
	self, err := instance.Open(layout.Instance(), layout.State)
	if err != nil {
		return nil, err
	}
	drivers := &drivers{config: cfg, layout: layout, kernels: kernels, log: log}
	net := network.New(networkConfig(cfg, self), log)
	manager := vm.New(vm.Config{
		Layout:  layout,
		DB:      db,
		Images:  images,
		Kernels: kernels,
		Initramfs: func(k kernel.Kernel) (string, error) {
			return initramfs.Ensure(layout, k.Name, k.BootModules, agent)
		},
		Network:     net,
		Copied:      self.Copied,
		Drivers:     drivers,
		Inspect:     inspectWorkspace,
		InspectCopy: inspectCopy,
		UserKey:     userKey,
		KeyPath:     keyPath,
		Credentials: credentials,
		Defaults:    defaults(cfg),
		BootTimeout: time.Duration(cfg.BootTimeout),
		Log:         log,
	})
	images.SetGuests(guests{manager, &dockerbuild.Builder{VMs: manager, Image: dockerImage}})
	kernels.SetInUse(kernelUsers(images, manager))
	net.SetNames(manager.Lookup, manager.ReverseLookup)
	if rootless.Inside() {
		net.SetHostDialer(func(ctx context.Context, port uint16) (*stdnet.TCPConn, error) {
			return rootless.DialHost(ctx, layout, port)
		})
	}
	err = guard.Run("settle what an earlier bangerd left", func() error { return manager.Reconcile(ctx) })
	if err != nil {
		return nil, err
	}
	if err := self.Keep(); err != nil {
		return nil, err
	}
	server := daemon.New(daemon.Config{
		Version: version.String(),
		VMs:     manager,
		Images:  images,
		Kernels: kernels,
		Usage:   diskusage.New(diskusage.Config{Layout: layout, VMs: manager, Images: images, Kernels: kernels}),
		Hosts:   drivers,
		Log:     log,
	})
	return &wired{layout: layout, db: db, network: net, manager: manager, server: server}, nil
}

// defaults are what a VM has whose user doesn't say otherwise.
func defaults(cfg config.Config) vm.Defaults {
	return vm.Defaults{
		Image: cfg.DefaultImageName,
		Shape: api.Shape{
			VCPUs:     cfg.DefaultVCPUs,
			MemoryMiB: cfg.DefaultMemoryMiB,
			DiskBytes: cfg.DefaultDiskGiB << 30,
		},
	}
}

// close lets go of the VMs, which run on.
func (w *wired) close(ctx context.Context) error {
	err := errors.Join(w.manager.Close(), w.db.Close())
	w.network.Close()
	return errors.Join(err, releaseNamespaces(ctx, w.layout))
}

// releaseNamespaces gives up a plain user's namespaces, unless a VM is in them.
func releaseNamespaces(ctx context.Context, layout paths.Layout) error {
	if !rootless.Inside() {
		return nil
	}
	return rootless.Release(ctx, layout)
}

// upstreams are the DNS servers to forward to; none means those of the host.
func upstreams(cfg config.Config) []netip.AddrPort {
	var servers []netip.AddrPort
	for _, addr := range cfg.DefaultDNS {
		servers = append(servers, netip.AddrPortFrom(addr, 53))
	}
	if len(servers) == 0 && rootless.Inside() {
		// The host's resolver may listen on its loopback, which isn't ours.
		servers = append(servers, rootless.Resolver())
	}
	return servers
}

// networkConfig is the configured network or, for what the user leaves open, the
// one that was chosen before.
func networkConfig(cfg config.Config, self *instance.Instance) network.Config {
	c := network.Config{
		Owner:  self.ID,
		Bridge: cfg.BridgeName, Gateway: cfg.BridgeIP, Subnet: cfg.CIDR,
		AutoBridge: cfg.AutoBridge, AutoSubnet: cfg.AutoCIDR, Chosen: self.Choose,
		DNS: upstreams(cfg), TapPool: cfg.TapPoolSize,
	}
	if !rootless.Inside() {
		c.Lock = paths.NetworkLock()
	}
	if cfg.AutoBridge && self.Bridge != "" {
		c.Bridge = self.Bridge
	}
	if cfg.AutoCIDR && self.Subnet.IsValid() {
		c.Subnet, c.Gateway = self.Subnet, self.Subnet.Masked().Addr().Next()
	}
	return c
}

// agentName is the program that runs in every guest.
const agentName = "banger-vsock-agent"

// findAgent looks beside bangerd, as in a build directory, and then where make
// install puts it.
func findAgent() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(self)
	for _, path := range []string{filepath.Join(dir, agentName), filepath.Join(dir, "..", "lib", "banger", agentName)} {
		if _, err := os.Stat(path); err == nil {
			return filepath.Clean(path), nil
		}
	}
	return "", api.Errorf(api.CodeHost, "the guest agent %s was found neither beside %s nor in ../lib/banger", agentName, self).
		WithHint("install banger with make install")
}

func inspectWorkspace(ctx context.Context, w api.Workspace) (vm.Workspace, error) {
	return workspace.Inspect(ctx, w)
}

func inspectCopy(ctx context.Context, c api.Copy) (vm.Workspace, error) {
	return workspace.InspectCopy(ctx, c)
}

// credentials are the user's own, or none where the user has no home.
func credentials() vm.Credentials {
	home, err := os.UserHomeDir()
	if err != nil {
		return vm.Credentials{}
	}
	return vm.ReadCredentials(home)
}
