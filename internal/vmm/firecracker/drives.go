package firecracker

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/vmm"
)

// serialSize is the room for a serial in virtio-blk (VIRTIO_BLK_ID_BYTES).
const serialSize = 20

// DriveSerial returns the serial that the guest sees of a drive. Firecracker
// makes it from the drive's file: device, special device and inode number in
// decimal, one after the other (build_device_id in its
// src/vmm/src/devices/virtio/block/virtio/device.rs). It stays the same as
// long as the file isn't replaced, and under any of the file's names.
func (d *Driver) DriveSerial(drive vmm.Drive) (string, error) {
	return driveSerial(drive)
}

func driveSerial(d vmm.Drive) (string, error) {
	var stat unix.Stat_t
	if err := unix.Stat(d.Path, &stat); err != nil {
		return "", fmt.Errorf("identify drive %s: stat %s: %w", d.ID, d.Path, err)
	}
	serial := fmt.Sprintf("%d%d%d", stat.Dev, stat.Rdev, stat.Ino)
	return serial[:min(len(serial), serialSize)], nil
}

// resourceID turns an id of ours into one that Firecracker takes: letters,
// digits and underscores. The guest doesn't see it.
func resourceID(id string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, id)
}

// checkDrives finds drives that Firecracker or the guest couldn't tell apart.
func checkDrives(drives []vmm.Drive) error {
	ids, serials := map[string]bool{}, map[string]string{}
	for _, d := range drives {
		id := resourceID(d.ID)
		if id == "" || ids[id] {
			return fmt.Errorf("drive id %q is empty or used twice", d.ID)
		}
		ids[id] = true
		serial, err := driveSerial(d)
		if err != nil {
			continue // Firecracker says what is wrong with the file
		}
		if other, taken := serials[serial]; taken {
			return fmt.Errorf("drives %q and %q would have the same serial, %s, in the guest", other, d.ID, serial)
		}
		serials[serial] = d.ID
	}
	return nil
}
