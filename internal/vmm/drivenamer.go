package vmm

// DriveNamer is implemented by drivers whose guests don't see a drive's ID as
// the serial of its virtio-blk device, because the VMM chooses the serial.
type DriveNamer interface {
	// DriveSerial returns the serial under which the guest finds a drive, as
	// in /sys/block/*/serial. The drive's file must exist, and be the one that
	// the VM is started with.
	DriveSerial(Drive) (string, error)
}
