package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/client"
	"banger/internal/daemon/daemontest"
	"banger/internal/guest"
)

// dialWeb creates a VM and connects to it.
func dialWeb(t *testing.T, inside func(net.Conn, uint32)) (guest.Conn, *testDaemon) {
	t.Helper()
	ctx, c, d := start(t)
	d.vms.Guest = inside
	if _, err := create(ctx, c, "web", nil); err != nil {
		t.Fatal(err)
	}
	dialCtx, cancel := context.WithCancel(ctx)
	conn, err := c.DialGuest(dialCtx, "web", 22)
	if err != nil {
		t.Fatal(err)
	}
	cancel() // it bounds dialling only
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn, d
}

// TestDialReadsAllBeforeAnswering needs half-close from client to guest.
func TestDialReadsAllBeforeAnswering(t *testing.T) {
	conn, _ := dialWeb(t, func(g net.Conn, port uint32) {
		defer g.Close()
		all, err := io.ReadAll(g)
		if err == nil && port == 22 {
			_, _ = g.Write(bytes.ToUpper(all))
		}
	})
	if _, err := io.WriteString(conn, "shout"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "SHOUT" {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestDialGuestFinishesFirst needs half-close from guest to client, and the
// guest's first bytes, which may arrive together with the reply's header.
func TestDialGuestFinishesFirst(t *testing.T) {
	received := make(chan string, 1)
	conn, _ := dialWeb(t, func(g net.Conn, _ uint32) {
		defer g.Close()
		_, _ = io.WriteString(g, "SSH-2.0-guest\r\n")
		_ = g.(*net.UnixConn).CloseWrite()
		all, _ := io.ReadAll(g)
		received <- string(all)
	})
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "SSH-2.0-guest\r\n" {
		t.Fatalf("read %q, %v", got, err)
	}
	if _, err := io.WriteString(conn, "still here"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := <-received; got != "still here" {
		t.Errorf("the guest received %q", got)
	}
}

// TestDialLeavingReachesTheGuest: a client that just goes away.
func TestDialLeavingReachesTheGuest(t *testing.T) {
	ended := make(chan error, 1)
	conn, _ := dialWeb(t, func(g net.Conn, _ uint32) {
		defer g.Close()
		_, err := io.Copy(io.Discard, g)
		ended <- err
	})
	conn.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the guest read %v, want a clean end", err)
		}
	case <-time.After(patience):
		t.Error("the guest's connection stayed open")
	}
}

func TestDialCarriesMuch(t *testing.T) {
	const size = 64 << 20
	conn, _ := dialWeb(t, nil) // echoes
	source := rand.NewChaCha8([32]byte{1})
	sent, received := sha256.New(), sha256.New()
	wrote := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, io.TeeReader(io.LimitReader(source, size), sent))
		if err == nil {
			err = conn.CloseWrite()
		}
		wrote <- err
	}()
	n, err := io.Copy(received, conn)
	if err != nil || n != size {
		t.Fatalf("received %d bytes, %v", n, err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
		t.Error("the bytes changed on their way")
	}
}

func TestDialErrors(t *testing.T) {
	ctx, c, _ := start(t)
	_, err := c.DialGuest(ctx, "nope", 22)
	wantCode(t, err, api.CodeNotFound, "nope")
	if _, err := create(ctx, c, "web", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Stream(ctx, c, api.StopVMRoute, api.StopVM{}, nil, "web"); err != nil {
		t.Fatal(err)
	}
	_, err = c.DialGuest(ctx, "web", 22)
	wantCode(t, err, api.CodeConflict, "stopped")
	plain := api.Route[api.None, api.None]{Method: "POST", Path: api.DialPath}
	_, err = client.Call(ctx, c, plain, api.None{}, "web", "22")
	wantCode(t, err, api.CodeInvalid, "Upgrade")
	_, err = client.Call(ctx, c, plain, api.None{}, "web", "4294967296")
	wantCode(t, err, api.CodeInvalid, "not a port number")
}

// TestDialEndsWithTheDaemon: a shutdown waits for nobody's session.
func TestDialEndsWithTheDaemon(t *testing.T) {
	conn, d := dialWeb(t, daemontest.Echo)
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}
	expect(t, conn, "x")
	d.stop()
	if err := <-d.served; err != nil {
		t.Errorf("serve = %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlived the daemon")
	}
}
