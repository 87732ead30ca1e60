package sshd

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"banger/internal/guest"
)

// answerAll reads a connection to its end, and answers with what it read,
// so that both half-closes are needed.
func answerAll(conn net.Conn) {
	defer conn.Close()
	text, err := io.ReadAll(conn)
	if err != nil {
		return
	}
	_, _ = conn.Write(append([]byte("got "), text...))
}

// answering serves one connection of a listener.
func answering(t *testing.T, l net.Listener, err error) net.Listener {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := l.Accept(); err == nil {
			answerAll(conn)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l
}

// ask expects the answer of answerAll.
func ask(t *testing.T, conn net.Conn, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	text := strings.Repeat("x", 1<<20)
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	half, ok := conn.(guest.Conn)
	if !ok {
		t.Fatalf("a %T can't be half-closed", conn)
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var answer []byte
	within(t, patience, "the answer", func() { answer, err = io.ReadAll(conn) })
	if err != nil || string(answer) != "got "+text {
		t.Errorf("the answer has %d bytes, %v", len(answer), err)
	}
}

func TestForwardToServer(t *testing.T) {
	c := serve(t, nil).client()
	for _, host := range []string{"127.0.0.1", "localhost"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		l = answering(t, l, err)
		_, port, _ := net.SplitHostPort(l.Addr().String())
		conn, err := c.Dial("tcp", net.JoinHostPort(host, port))
		ask(t, conn, err)
	}
	l, err := net.Listen("unix", filepath.Join(shortDir(t), "socket"))
	l = answering(t, l, err)
	conn, err := c.Dial("unix", l.Addr().String())
	ask(t, conn, err)
}

func TestForwardToNobody(t *testing.T) {
	c := serve(t, nil).client()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = c.Dial("tcp", l.Addr().String())
	var refusal *ssh.OpenChannelError
	if !errors.As(err, &refusal) || refusal.Reason != ssh.ConnectionFailed || !strings.Contains(refusal.Message, "refused") {
		t.Errorf("got %v", err)
	}
}

func TestForwardToClient(t *testing.T) {
	c := serve(t, nil).client()
	l, err := c.Listen("tcp", "127.0.0.1:0")
	l = answering(t, l, err)
	conn, err := net.Dial("tcp", l.Addr().String())
	ask(t, conn, err)

	socket := filepath.Join(shortDir(t), "socket")
	l, err = c.Listen("unix", socket)
	answering(t, l, err)
	conn, err = net.Dial("unix", socket)
	ask(t, conn, err)
}

func TestCancelForwardToClient(t *testing.T) {
	c := serve(t, nil).client()
	l, err := c.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("the port is still open")
	}
	// What is cancelled can be opened again.
	if _, err = c.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Listen("tcp", address); err == nil {
		t.Error("the same port is open twice")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the listening", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
}

// TestForwardedConnectionEndsWithClient has a peer that never closes by itself.
func TestForwardedConnectionEndsWithClient(t *testing.T) {
	c := serve(t, nil).client()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ch, err := c.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if err := ch.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, patience, "the end at the peer", func() {
		_, _ = io.Copy(io.Discard, peer)
		// Its end was half-closed at first; it is closed when writing fails.
		eventually(t, "the reset", func() bool {
			_, err := peer.Write([]byte("x"))
			return err != nil
		})
	})
}

func TestAgentForwarding(t *testing.T) {
	f := serve(t, nil)
	c := f.client()
	keys := agent.NewKeyring()
	if err := agent.ForwardToAgent(c, keys); err != nil {
		t.Fatal(err)
	}
	s := newSession(t, c)
	if err := agent.RequestAgentForwarding(s); err != nil {
		t.Fatal(err)
	}
	out, err := s.Output(`stat -c %a "${SSH_AUTH_SOCK%/*}" && echo "$SSH_AUTH_SOCK"`)
	if err != nil {
		t.Fatal(err)
	}
	mode, socket, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if mode != "700" {
		t.Errorf("the socket's directory has mode %s", mode)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agent.NewClient(conn).List(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(conn.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removal of the socket's directory", func() bool {
		_, err := os.Stat(filepath.Dir(socket))
		return errors.Is(err, os.ErrNotExist)
	})
	if out := f.output(`echo "${SSH_AUTH_SOCK-unset}"`); out != "unset\n" && os.Getenv("SSH_AUTH_SOCK") == "" {
		t.Errorf("without a request: %q", out)
	}
}
