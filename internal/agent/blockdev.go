package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	deviceWait = 30 * time.Second
	devicePoll = 20 * time.Millisecond
)

// findDevice returns the device of the virtio disk with a serial, waiting for
// it to be probed.
func findDevice(serial string) (string, error) {
	for deadline := time.Now().Add(deviceWait); ; time.Sleep(devicePoll) {
		dev, err := lookupDevice("/sys/block", "/dev", serial)
		if err == nil || time.Now().After(deadline) {
			return dev, err
		}
	}
}

// lookupDevice looks through a directory like /sys/block.
func lookupDevice(class, dev, serial string) (string, error) {
	files, err := filepath.Glob(filepath.Join(class, "vd*", "serial"))
	if err != nil {
		return "", err
	}
	var seen []string
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // it went away
		}
		got := strings.TrimRight(string(content), "\x00\n")
		if got == serial {
			return filepath.Join(dev, filepath.Base(filepath.Dir(file))), nil
		}
		seen = append(seen, fmt.Sprintf("%q", got))
	}
	return "", fmt.Errorf("find disk %q: the VM has %d virtio disks with the serials [%s]", serial, len(files), strings.Join(seen, " "))
}

// filesystemOf tells a device's filesystem by its magic number: ext4
// (little-endian 0xEF53 at 1080), erofs (0xE0F5E1E2 at 1024), xfs and squashfs
// at 0, btrfs at 65600; see the kernel's include/uapi/linux/magic.h.
func filesystemOf(device string) (string, error) {
	f, err := os.Open(device)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 66<<10)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("read %s: %w", device, err)
	}
	return filesystemByMagic(head[:n])
}

func filesystemByMagic(head []byte) (string, error) {
	head = append(head, make([]byte, max(0, 66<<10-len(head)))...)
	switch {
	case binary.LittleEndian.Uint16(head[1080:]) == 0xEF53:
		return "ext4", nil
	case binary.LittleEndian.Uint32(head[1024:]) == 0xE0F5E1E2:
		return "erofs", nil
	case bytes.HasPrefix(head, []byte("hsqs")):
		return "squashfs", nil
	case bytes.HasPrefix(head, []byte("XFSB")):
		return "xfs", nil
	case bytes.HasPrefix(head[65600:], []byte("_BHRfS_M")):
		return "btrfs", nil
	}
	return "", errors.New("it has none of the filesystems ext4, erofs, squashfs, xfs and btrfs")
}

// mountDevice mounts a device at a directory that it makes.
func mountDevice(serial, target string, readOnly bool) error {
	device, err := findDevice(serial)
	if err != nil {
		return err
	}
	kind, err := filesystemOf(device)
	if err != nil {
		return fmt.Errorf("mount disk %q: %w", serial, err)
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	flags := uintptr(unix.MS_NOATIME)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	err = unix.Mount(device, target, kind, flags, "")
	// An image that wasn't unmounted cleanly can't have its journal replayed
	// on a read-only device.
	if without := map[string]string{"ext4": "noload", "xfs": "norecovery"}[kind]; err != nil && readOnly && without != "" {
		if unix.Mount(device, target, kind, flags, without) == nil {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("mount disk %q (%s on %s): %w", serial, kind, device, err)
	}
	return nil
}
