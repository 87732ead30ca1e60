package firecracker

import (
	"fmt"

	"golang.org/x/sys/unix"

	"banger/internal/vmm"
)

// giveTap makes a user and the group of the same number the owners of a tap,
// which lets them open it without any capability. A tap that has an owner and a
// group is for processes that match both. giveTap needs root, and that nobody
// has the tap open.
func giveTap(name string, uid int) error {
	ifreq, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("give tap %q to the jail: %w", name, err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("give tap %s to the jail: open /dev/net/tun: %w", name, err)
	}
	defer unix.Close(fd)
	ifreq.SetUint16(vmm.TapFlags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifreq); err != nil {
		return fmt.Errorf("give tap %s to the jail: open it: %w", name, err)
	}
	for _, set := range []uint{unix.TUNSETOWNER, unix.TUNSETGROUP} {
		if err := unix.IoctlSetInt(fd, set, uid); err != nil {
			return fmt.Errorf("give tap %s to the jail: %w", name, err)
		}
	}
	return nil
}
