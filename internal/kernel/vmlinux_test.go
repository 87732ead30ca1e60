package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// content stands for a vmlinux: machine code, so that the x86 filter of xz has
// something to do, and long enough for several lz4 blocks' worth of matches.
func content() []byte {
	var b bytes.Buffer
	for i := range 20000 {
		b.Write([]byte{0x90, 0xe8, byte(i), byte(i >> 8), 0, 0}) // nop; call
	}
	return b.Bytes()
}

// vmlinuz wraps a compressed payload like a kernel's boot image.
func vmlinuz(compressed []byte, size uint32) []byte {
	const setup = 3 // sectors
	const payloadAt = 0x2cc
	image := make([]byte, (setup+1)*sector+payloadAt)
	le := binary.LittleEndian
	image[offSetupSects] = setup
	copy(image[offMagic:], "HdrS")
	le.PutUint16(image[offProtocol:], 0x020f)
	payload := bytes.Clone(compressed)
	if !hasPrefix(compressed, 0x1f, 0x8b) { // gzip has the size in it
		payload = le.AppendUint32(payload, size)
	}
	le.PutUint32(image[offPayload:], payloadAt)
	le.PutUint32(image[offPayloadLength:], uint32(len(payload)))
	image = append(image, payload...)
	return append(image, "padding and a signature"...)
}

// compressed returns content() in every format that kernels use.
func compressed(t *testing.T) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	pack := func(name string, open func(io.Writer) (io.WriteCloser, error)) {
		var b bytes.Buffer
		w, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		all[name] = b.Bytes()
	}
	pack("gzip", func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
	pack("zstd", func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
	pack("lz4", func(w io.Writer) (io.WriteCloser, error) {
		z := lz4.NewWriter(w)
		return z, z.Apply(lz4.LegacyOption(true))
	})
	// No Go library writes xz with the x86 filter; these files were made of
	// content() by "xz --check=crc32 --x86 --lzma2=dict=32MiB" and without
	// --x86, the former as in the kernel's scripts/xz_wrap.sh.
	for _, name := range []string{"xz-x86", "xz-plain"} {
		data, err := os.ReadFile(filepath.Join("testdata", "content."+name))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = data
	}
	return all
}

func TestVmlinux(t *testing.T) {
	want := content()
	for name, data := range compressed(t) {
		boot, err := parseBootImage(vmlinuz(data, uint32(len(want))))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if boot.size() != int64(len(want)) {
			t.Errorf("%s: size %d", name, boot.size())
		}
		var got bytes.Buffer
		if err := boot.writeVmlinux(&got); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: the content changed", name)
		}
	}
}

func TestVmlinuxWrongSize(t *testing.T) {
	n := uint32(len(content()))
	for name, data := range compressed(t) {
		if name == "gzip" {
			continue // its size is part of the format and checked by the reader
		}
		for _, size := range []uint32{0, n - 1, n + 1, maxVmlinux + 1} {
			boot, err := parseBootImage(vmlinuz(data, size))
			if err != nil {
				t.Fatal(err)
			}
			if err := boot.writeVmlinux(io.Discard); err == nil {
				t.Errorf("%s: took %d bytes for %d", name, n, size)
			}
		}
	}
}

func TestVmlinuxDamagedPayload(t *testing.T) {
	for name, data := range compressed(t) {
		// A cut stream whose announced size is right.
		image := vmlinuz(data[:len(data)/2], uint32(len(content())))
		boot, err := parseBootImage(image)
		if err != nil {
			t.Fatal(err)
		}
		if err := boot.writeVmlinux(io.Discard); err == nil {
			t.Errorf("%s: half a payload was accepted", name)
		}
	}
	boot, err := parseBootImage(vmlinuz([]byte("BZh9 unknown"), 100))
	if err != nil {
		t.Fatal(err)
	}
	if err := boot.writeVmlinux(io.Discard); err == nil || !strings.Contains(err.Error(), "unknown compression (it begins with 42 5a 68 39)") {
		t.Errorf("unknown compression: %v", err)
	}
}

func TestVmlinuxWriteError(t *testing.T) {
	broken := errors.New("broken")
	for name, data := range compressed(t) {
		boot, err := parseBootImage(vmlinuz(data, uint32(len(content()))))
		if err != nil {
			t.Fatal(err)
		}
		if err := boot.writeVmlinux(failingWriter{broken}); !errors.Is(err, broken) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestBadBootHeader(t *testing.T) {
	data := compressed(t)["zstd"]
	change := func(f func(image []byte) []byte) []byte { return f(vmlinuz(data, 1)) }
	for name, image := range map[string][]byte{
		"empty":     nil,
		"short":     []byte("MZ"),
		"no magic":  change(func(b []byte) []byte { b[offMagic] = 'x'; return b }),
		"protocol":  change(func(b []byte) []byte { b[offProtocol] = 7; return b }),
		"truncated": change(func(b []byte) []byte { return b[:len(b)-30] }),
		"no payload": change(func(b []byte) []byte {
			copy(b[offPayloadLength:], make([]byte, 4))
			return b
		}),
		"far away": change(func(b []byte) []byte {
			copy(b[offPayload:], []byte{0xff, 0xff, 0xff, 0xff})
			return b
		}),
	} {
		if _, err := parseBootImage(image); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzBootImage(f *testing.F) {
	f.Add(vmlinuz([]byte("\x28\xb5\x2f\xfdjunk"), 10))
	f.Add(vmlinuz([]byte("\x02\x21\x4c\x18junk"), 10))
	f.Fuzz(func(t *testing.T, image []byte) {
		boot, err := parseBootImage(image)
		if err != nil || boot.size() > 1<<20 {
			return
		}
		var out bytes.Buffer
		if err := boot.writeVmlinux(&out); err == nil && int64(out.Len()) != boot.size() {
			t.Errorf("wrote %d bytes instead of %d", out.Len(), boot.size())
		}
	})
}

// A legacy frame of lz4 has no end mark and consists of blocks of 8 MiB; this
// one was made by "lz4 -l -9", as by the kernel's build.
func TestVmlinuxLZ4Blocks(t *testing.T) {
	data, err := os.ReadFile("testdata/two-blocks.lz4")
	if err != nil {
		t.Fatal(err)
	}
	piece := content()[:6000]
	want := slices.Concat(piece, make([]byte, 8<<20), piece)
	boot, err := parseBootImage(vmlinuz(data, uint32(len(want))))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := boot.writeVmlinux(&got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the content changed; it has %d bytes, want %d", got.Len(), len(want))
	}
}
