package halfclose

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns both ends of a connection.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if a, err = net.Dial("unix", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func wrapped(t *testing.T) (a, b *Conn) {
	one, two := pair(t)
	return New(one), New(two)
}

func TestEchoUntilTheEnd(t *testing.T) {
	a, b := wrapped(t)
	go func() {
		_, _ = io.Copy(b, b)
		_, _ = b.Write([]byte("end"))
		_ = b.Close()
	}()
	sent := make([]byte, 1<<20+17)
	for i := range sent {
		sent[i] = byte(rand.IntN(256))
	}
	go func() {
		_, _ = a.Write(sent)
		_ = a.CloseWrite()
	}()
	got, err := io.ReadAll(a)
	if err != nil || !bytes.Equal(got, append(sent, "end"...)) {
		t.Errorf("got %d bytes and %v, want %d", len(got), err, len(sent)+3)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after CloseWrite: %v", err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Errorf("second CloseWrite: %v", err)
	}
}

func TestCloseEndsTheData(t *testing.T) {
	a, b := wrapped(t)
	if _, err := a.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
}

func TestLossIsNoEnd(t *testing.T) {
	for name, sent := range map[string]string{
		"nothing": "", "half a header": "\x00\x00", "half a chunk": "\x00\x00\x00\x05he",
	} {
		a, b := pair(t)
		if _, err := a.Write([]byte(sent)); err != nil {
			t.Fatal(err)
		}
		a.Close()
		if _, err := io.ReadAll(New(b)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestForeignDataIsRefused(t *testing.T) {
	a, b := pair(t)
	if _, err := a.Write([]byte("SSH-2.0-x\r\n")); err != nil {
		t.Fatal(err)
	}
	c := New(b)
	for range 2 {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, errCorrupt) {
			t.Errorf("got %v", err)
		}
	}
}

// TestDeadline interrupts a read in the middle of a header, and goes on.
func TestDeadline(t *testing.T) {
	a, b := pair(t)
	c := New(b)
	if _, err := a.Write([]byte{0, 0}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write([]byte("\x00\x02hi\x00\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(iotest.OneByteReader(c)); err != nil || string(got) != "hi" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCloseInterruptsAWrite(t *testing.T) {
	a, _ := wrapped(t)
	stuck := make(chan error, 1)
	go func() {
		_, err := a.Write(make([]byte, 64<<20)) // nobody reads
		stuck <- err
	}()
	for a.writing.TryLock() { // until the write has begun
		a.writing.Unlock()
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-stuck:
		t.Fatalf("the write isn't stuck: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := <-stuck; err == nil {
		t.Error("the write succeeded")
	}
	if err := a.CloseWrite(); err == nil {
		t.Error("CloseWrite after a broken write succeeded")
	}
}

func TestListen(t *testing.T) {
	plain, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	listener := Listen(plain)
	defer listener.Close()
	conn, err := net.Dial("unix", plain.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = New(conn).Close() }()
	if _, err := accepted.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	if err := accepted.Close(); err != nil {
		t.Error(err)
	}
	listener.Close()
	if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after Close: %v", err)
	}
}
