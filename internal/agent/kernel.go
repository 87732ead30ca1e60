package agent

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/guest"
)

// setUpKernel sets what lives in the kernel: clock, random numbers, host name.
func setUpKernel(config guest.BootConfig, log *slog.Logger) error {
	if !config.Time.IsZero() {
		now := unix.NsecToTimespec(config.Time.UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
			return fmt.Errorf("set the clock: %w", err)
		}
	}
	if len(config.Entropy) > 0 {
		if err := addEntropy(config.Entropy); err != nil {
			log.Warn("seed random numbers", "err", err) // the kernel has other sources
		}
	}
	if err := raiseLimits("/proc/sys"); err != nil {
		log.Warn("raise the kernel's limits", "err", err) // most programs do without
	}
	if config.Hostname != "" {
		if err := unix.Sethostname([]byte(config.Hostname)); err != nil {
			return fmt.Errorf("set host name %q: %w", config.Hostname, err)
		}
	}
	return nil
}

// maxEntropy bounds one RNDADDENTROPY call, in bytes.
const maxEntropy = 512

// addEntropy seeds the kernel's random numbers, random(4).
func addEntropy(seed []byte) error {
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// struct rand_pool_info
	var pool struct {
		bits int32
		size int32
		data [maxEntropy]byte
	}
	n := copy(pool.data[:], seed)
	pool.bits, pool.size = int32(8*n), int32(n)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&pool))); errno != 0 {
		return errno
	}
	return nil
}

// setUpNetwork configures the interface that the host knows by its MAC
// address. A config without one leaves the guest without a network.
func setUpNetwork(config guest.BootConfig) error {
	if lo, err := netlink.LinkByName("lo"); err == nil {
		if err := netlink.LinkSetUp(lo); err != nil {
			return fmt.Errorf("bring up lo: %w", err)
		}
	}
	if config.MAC == "" {
		return nil
	}
	link, err := findLink(config.MAC)
	for deadline := time.Now().Add(deviceWait); err != nil && time.Now().Before(deadline); {
		time.Sleep(devicePoll)
		link, err = findLink(config.MAC)
	}
	if err != nil {
		return err
	}
	name := link.Attrs().Name
	if config.MTU > 0 {
		if err := netlink.LinkSetMTU(link, config.MTU); err != nil {
			return fmt.Errorf("set MTU %d of %s: %w", config.MTU, name, err)
		}
	}
	address, err := netlink.ParseAddr(config.Address)
	if err != nil {
		return fmt.Errorf("parse address %q: %w", config.Address, err)
	}
	if err := netlink.AddrReplace(link, address); err != nil {
		return fmt.Errorf("set address %s of %s: %w", config.Address, name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	if config.Gateway == "" {
		return nil
	}
	gateway, err := netip.ParseAddr(config.Gateway)
	if err != nil {
		return fmt.Errorf("parse gateway: %w", err)
	}
	if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()}); err != nil {
		return fmt.Errorf("set default route by %s: %w", gateway, err)
	}
	return nil
}

func findLink(mac string) (netlink.Link, error) {
	want, err := net.ParseMAC(mac)
	if err != nil {
		return nil, fmt.Errorf("parse MAC address: %w", err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var names []string
	for _, link := range links {
		if a := link.Attrs(); a.HardwareAddr.String() == want.String() {
			return link, nil
		} else if a.Name != "lo" {
			names = append(names, a.Name+" "+a.HardwareAddr.String())
		}
	}
	return nil, fmt.Errorf("find network interface %s: the VM has [%s]", want, strings.Join(names, ", "))
}
