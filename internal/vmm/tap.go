package vmm

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// TapFlags are those with which VMMs open a tap: bare Ethernet frames behind a
// virtio-net header.
const TapFlags = unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR

// What VMMs set for a tap once the guest's driver has begun, and what a new tap
// hasn't got.
const (
	// frameHeader is the virtio-net header of virtio 1, in bytes.
	frameHeader = 12
	// offloads is what the driver of any Linux takes: frames larger than the
	// MTU, and without their checksums. The kernel does for the tap what isn't
	// set here.
	offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
)

// tunDevice is /dev/net/tun, whatever its name is where the VMM is.
var tunDevice = unix.Mkdev(10, 200)

// ReattachTap connects a VMM to the tap of that name, after the one that it had
// open was removed. The VMM has only a descriptor without an interface then;
// that very descriptor gets one, so that the VMM notices nothing. It returns
// ErrGone when the process has ended.
func (p *Process) ReattachTap(name string) error {
	fd, err := p.lostTap()
	if err != nil && p.ended() {
		return ErrGone
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("connect process %d to tap %q: %w", p.pid, name, err)
	}
	request.SetUint16(TapFlags)
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	if err == nil {
		err = errors.Join(
			unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, frameHeader),
			unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads))
	}
	if err != nil {
		return fmt.Errorf("connect process %d to tap %s: %w", p.pid, name, err)
	}
	return nil
}

// lostTap returns a duplicate of the process's descriptor whose tap was removed.
// It is no os.File, which could change the mode that both have in common.
func (p *Process) lostTap() (int, error) {
	dir := fmt.Sprintf("/proc/%d/fd", p.pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return -1, fmt.Errorf("list the descriptors of process %d: %w", p.pid, err)
	}
	for _, e := range entries {
		var stat unix.Stat_t
		if unix.Stat(dir+"/"+e.Name(), &stat) != nil || stat.Mode&unix.S_IFMT != unix.S_IFCHR || stat.Rdev != tunDevice {
			continue
		}
		// What follows goes by the pidfd and the duplicate: the pid may be
		// another process's by now.
		fd, err := p.duplicate(e.Name())
		if err != nil {
			return -1, err
		}
		lost, err := hasLostTap(fd)
		if err == nil && lost {
			return fd, nil
		}
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			return -1, err
		}
	}
	return -1, fmt.Errorf("process %d has no descriptor that has lost its tap", p.pid)
}

// duplicate returns a descriptor of the process's, by its number there.
func (p *Process) duplicate(number string) (int, error) {
	var target int
	if _, err := fmt.Sscan(number, &target); err != nil {
		return -1, fmt.Errorf("take a descriptor of process %d: %w", p.pid, err)
	}
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("take a descriptor of process %d: %w", p.pid, err)
	}
	var fd int
	var taken error
	err = conn.Control(func(pidfd uintptr) { fd, taken = unix.PidfdGetfd(int(pidfd), target, 0) })
	if err := errors.Join(err, taken); err != nil {
		return -1, fmt.Errorf("take descriptor %d of process %d: %w", target, p.pid, err)
	}
	return fd, nil
}

// hasLostTap tells whether a descriptor of /dev/net/tun has no interface.
func hasLostTap(fd int) (bool, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return false, fmt.Errorf("look at a tap's descriptor: %w", err)
	}
	_, rest, found := bytes.Cut(info, []byte("\niff:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return found && len(bytes.TrimSpace(line)) == 0, nil
}
