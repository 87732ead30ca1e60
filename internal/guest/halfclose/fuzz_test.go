package halfclose

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
)

// said is a connection whose other end says what it was going to say anyway.
type said struct {
	net.Conn // nil: only Read is called
	in       io.Reader
}

func (s said) Read(p []byte) (int, error) { return s.in.Read(p) }

// expect takes a stream apart as the package's comment describes it.
func expect(stream []byte) (payload []byte, end error) {
	for {
		if len(stream) < headerSize {
			return payload, io.ErrUnexpectedEOF
		}
		size := binary.BigEndian.Uint32(stream)
		switch stream = stream[headerSize:]; {
		case size == 0:
			return payload, nil
		case size > maxChunk:
			return payload, errCorrupt
		case int(size) > len(stream):
			return append(payload, stream...), io.ErrUnexpectedEOF
		}
		payload, stream = append(payload, stream[:size]...), stream[size:]
	}
}

// Whatever the peer says, its payload and its end are told as they are.
func FuzzRead(f *testing.F) {
	for _, stream := range []string{
		"", "\x00", "\x00\x00\x00\x00", "\x00\x00\x00\x02hi\x00\x00\x00\x00", "\x00\x00\x00\x02hi\x00\x00\x00\x01!",
		"\x00\x00\x00\x09short", "\xff\xff\xff\xffx", "\x00\x01\x00\x00x", "\x00\x01\x00\x01x", "\x00\x00\x00\x00\x00\x00\x00\x02hi",
	} {
		f.Add([]byte(stream))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		want, end := expect(stream)
		for name, in := range map[string]io.Reader{
			"whole": bytes.NewReader(stream), "bytes": iotest.OneByteReader(bytes.NewReader(stream)),
			"with its error": iotest.DataErrReader(bytes.NewReader(stream)),
		} {
			c := New(said{in: in})
			got, err := io.ReadAll(c)
			if !bytes.Equal(got, want) || !errors.Is(err, end) {
				t.Fatalf("%s: got %q, %v; want %q, %v", name, got, err, want, end)
			}
			if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Fatalf("%s: %d bytes behind the end, %v", name, n, err)
			}
		}
	})
}
