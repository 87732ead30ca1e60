package guest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// answering is a connection to an agent that says what it was going to say
// anyway.
type answering struct {
	io.Reader
	net.Conn // nil: only what is below is called
}

func (a answering) Read(p []byte) (int, error)       { return a.Reader.Read(p) }
func (a answering) Write(p []byte) (int, error)      { return len(p), nil }
func (a answering) Close() error                     { return nil }
func (a answering) CloseWrite() error                { return nil }
func (a answering) SetDeadline(time.Time) error      { return nil }
func (a answering) SetReadDeadline(time.Time) error  { return nil }
func (a answering) SetWriteDeadline(time.Time) error { return nil }

// Whatever an agent answers, calls end, with errors of bounded length.
func FuzzAnswers(f *testing.F) {
	for _, said := range []string{
		"", "\n", "{}\n", "{}\n{}\n", "null\n", "[]\n", `{"error":"no"}` + "\n", `{"result":{"state":"running"}}` + "\n",
		`{"result":{"uptime":1e99}}` + "\n", `{"result":{"uptime":-1,"time":"9999-12-31T23:59:59Z"}}` + "\n", "{}\n\x00\x00\x00\x02ab\x00\x00\x00\x00{}\n", "{}\n\xff\xff\xff\xff",
		"{}\n\x00\x00\x00\x00" + `{"error":"a bad sector"}` + "\n",
	} {
		f.Add([]byte(said))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		c := NewClient(func(context.Context, uint32) (Conn, error) {
			return answering{Reader: bytes.NewReader(said)}, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, health := c.Health(ctx)
		_, boot := c.Boot(ctx, BootConfig{})
		_, clock := c.Clock(ctx, ClockParams{})
		var out bytes.Buffer
		errs := []error{
			health, boot, clock, c.Shutdown(ctx, ShutdownParams{}),
			c.Archive(ctx, &out), c.Extract(ctx, ExtractParams{Path: "/x"}, bytes.NewReader([]byte("tar"))),
		}
		for _, err := range errs {
			if err != nil && len(err.Error()) > MaxText+200 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		}
		if out.Len() > len(said) {
			t.Errorf("%d bytes came out of %d", out.Len(), len(said))
		}
		if ctx.Err() != nil {
			t.Error("a call hangs")
		}
	})
}

// A stream of chunks is written as it is read, and cut off by nothing but its
// end.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("some files"), uint16(3))
	f.Add([]byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		var line bytes.Buffer
		w := NewChunkWriter(&line)
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := copyChunks(&got, bytes.NewReader(line.Bytes())); err != nil || !bytes.Equal(got.Bytes(), data) {
			t.Fatalf("%d bytes became %d: %v", len(data), got.Len(), err)
		}
		short := line.Bytes()[:min(int(cut), line.Len()-1)]
		if err := copyChunks(io.Discard, bytes.NewReader(short)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut off after %d bytes: %v", len(short), err)
		}
		_ = copyChunks(io.Discard, bytes.NewReader(data)) // whatever it is
	})
}

// A request of the host's is read by the agent, or refused.
func FuzzReadLine(f *testing.F) {
	f.Add([]byte(`{"call":"health"}` + "\nrest"))
	f.Fuzz(func(t *testing.T, said []byte) {
		in := bufio.NewReaderSize(bytes.NewReader(said), 16)
		var request Request
		if ReadLine(in, &request) != nil {
			return
		}
		rest, err := io.ReadAll(in)
		_, want, _ := bytes.Cut(said, []byte("\n"))
		if err != nil || !bytes.Equal(rest, want) {
			t.Errorf("%q is left behind the line, want %q (%v)", rest, want, err)
		}
	})
}
