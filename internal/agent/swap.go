package agent

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// swapDiscard has the kernel tell the disk of what is swapped in again, so that
// the host gets the space back: SWAP_FLAG_DISCARD, swapon(2).
const swapDiscard = 0x10000

// swapTo has the kernel swap to a disk. What is on it is lost.
func swapTo(serial string) error {
	device, err := findDevice(serial)
	if err != nil {
		return err
	}
	if err := makeSwap(device); err != nil {
		return fmt.Errorf("prepare %s to swap to: %w", device, err)
	}
	path, err := unix.BytePtrFromString(device)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(path)), swapDiscard, 0); errno != 0 {
		return fmt.Errorf("swap to %s: %w", device, errno)
	}
	return nil
}

// makeSwap writes what marks a device, or a file, as one to swap to: the first
// page, see union swap_header in the kernel's include/linux/swap.h.
func makeSwap(device string) error {
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.WriteAt(swapHeader(size), 0)
	}
	return errors.Join(err, f.Close())
}

// swapHeader is the first page of an area of that many bytes.
func swapHeader(size int64) []byte {
	const start, version, mark = 1024, 1, "SWAPSPACE2" // the boot sectors' room comes first
	page := make([]byte, os.Getpagesize())
	binary.NativeEndian.PutUint32(page[start:], version)
	binary.NativeEndian.PutUint32(page[start+4:], uint32(size/int64(len(page))-1)) // the last page
	_, _ = rand.Read(page[start+12 : start+28])                                    // its UUID; never fails
	copy(page[len(page)-len(mark):], mark)
	return page
}
