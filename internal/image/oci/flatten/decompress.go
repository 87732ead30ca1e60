package flatten

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is the memory that a zstd frame may ask for: that of
// `zstd --long=27`.
const maxWindow = 128 << 20

// Decompress undoes whatever compression r has: none, gzip or zstd. It goes by the content,
// since media types in manifests are sometimes wrong. Close of the result
// doesn't close r.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 256<<10)
	head, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}): // RFC 1952
		gz, err := gzip.NewReader(br)
		if err != nil {
			return nil, err
		}
		return gz, nil
	case isZstd(head):
		// More than one would decode on goroutines of the library, where nothing
		// catches a panic.
		zr, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return zr.IOReadCloser(), nil
	case bytes.HasPrefix(head, []byte("BZh")), bytes.Equal(head, []byte("\xfd7zXZ\x00")):
		return nil, errors.New("its compression is neither gzip nor zstd")
	}
	return io.NopCloser(br), nil
}

// isZstd knows data frames and skippable frames, with which zstd:chunked
// layers may start: RFC 8878, sections 3.1.1 and 3.1.2.
func isZstd(head []byte) bool {
	return bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18})
}
