package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"github.com/pierrec/lz4/v4"
)

// Offsets in an x86 boot image; Documentation/arch/x86/boot.rst, "The
// Real-Mode Kernel Header". Numbers are little-endian.
const (
	offSetupSects    = 0x1f1 // u8: size of the setup code in sectors, less the boot sector
	offMagic         = 0x202 // "HdrS"
	offProtocol      = 0x206 // u16: version of the boot protocol
	offPayload       = 0x248 // u32: start of the payload, after the setup code
	offPayloadLength = 0x24c // u32
	headerEnd        = 0x250

	sector          = 512
	defaultSetup    = 4      // meaning of setup_sects 0
	payloadProtocol = 0x0208 // the first one with a payload field
)

const (
	// maxVmlinux bounds what a payload may claim to unpack to.
	maxVmlinux = 1 << 30
	// maxVmlinuz bounds what is compressed, which is read into memory.
	maxVmlinuz = 256 << 20
	// maxWindow is the largest dictionary that the kernel's build uses:
	// zstd --ultra -22 makes it 128 MiB.
	maxWindow = 128 << 20
)

// bootImage is the part of a vmlinuz that matters here: the compressed vmlinux
// and, at its end, the size.
type bootImage struct{ payload []byte }

var errNoBootHeader = errors.New("not an x86 kernel: the boot header is missing")

// hasBootHeader tells whether a file that begins with head may be a vmlinuz.
func hasBootHeader(head []byte) bool {
	return len(head) >= headerEnd && string(head[offMagic:offMagic+4]) == "HdrS"
}

// parseBootImage finds the payload of an x86 vmlinuz by its header. (Looking
// for the magic bytes of compressed data instead finds them in wrong places.)
func parseBootImage(image []byte) (bootImage, error) {
	if !hasBootHeader(image) {
		return bootImage{}, errNoBootHeader
	}
	le := binary.LittleEndian
	if v := le.Uint16(image[offProtocol:]); v < payloadProtocol {
		return bootImage{}, fmt.Errorf("boot protocol %d.%02d is too old: need 2.08", v>>8, v&0xff)
	}
	setup := int64(image[offSetupSects])
	if setup == 0 {
		setup = defaultSetup
	}
	start := (setup+1)*sector + int64(le.Uint32(image[offPayload:]))
	length := int64(le.Uint32(image[offPayloadLength:]))
	if length < 8 || start+length > int64(len(image)) {
		return bootImage{}, fmt.Errorf("the kernel is truncated: its payload is at %d to %d, the file has %d bytes",
			start, start+length, len(image))
	}
	return bootImage{payload: image[start : start+length]}, nil
}

// size returns what the payload unpacks to: its last four bytes, which are
// gzip's own trailer, and are put there by the kernel's build otherwise
// (scripts/Makefile.lib, size_append).
func (b bootImage) size() int64 {
	return int64(binary.LittleEndian.Uint32(b.payload[len(b.payload)-4:]))
}

// writeVmlinux unpacks the payload into w.
func (b bootImage) writeVmlinux(w io.Writer) error {
	size := b.size()
	if size > maxVmlinux {
		return fmt.Errorf("unpack the kernel: it claims to have %d bytes", size)
	}
	r, err := b.open()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(w, io.LimitReader(r, size+1))
	if err != nil {
		return fmt.Errorf("unpack the kernel: %w", err)
	}
	if n != size {
		return fmt.Errorf("unpack the kernel: it has %d bytes or more instead of %d", n, size)
	}
	return nil
}

// open returns a reader of the unpacked payload.
func (b bootImage) open() (io.ReadCloser, error) {
	stream := b.payload[:len(b.payload)-4]
	switch {
	case hasPrefix(b.payload, 0x1f, 0x8b):
		return gzip.NewReader(bytes.NewReader(b.payload))
	case hasPrefix(stream, 0x28, 0xb5, 0x2f, 0xfd):
		d, err := zstd.NewReader(bytes.NewReader(stream), zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxVmlinux))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case hasPrefix(stream, 0xfd, '7', 'z', 'X', 'Z', 0):
		r, err := xz.NewReader(bytes.NewReader(stream), maxWindow)
		return io.NopCloser(r), err
	case hasPrefix(stream, 0x02, 0x21, 0x4c, 0x18):
		return io.NopCloser(lz4.NewReader(bytes.NewReader(stream))), nil
	}
	return nil, fmt.Errorf("unpack the kernel: unknown compression (it begins with % x)", stream[:min(4, len(stream))])
}

func hasPrefix(b []byte, magic ...byte) bool { return bytes.HasPrefix(b, magic) }
