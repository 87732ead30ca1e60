package sshd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

// patience is far beyond what any step takes on a busy machine.
const patience = time.Minute

// sftpArgument makes the test binary the SFTP server that a Server starts.
const sftpArgument = "serve-sftp"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == sftpArgument {
		if err := ServeSFTP(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 3 && os.Args[1] == proxyArgument {
		if err := proxy(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// fixture is a running server and the keys to it.
type fixture struct {
	t       testing.TB
	socket  string
	hostKey ssh.Signer
	key     ssh.Signer
	keyPath string
	user    string
	stop    context.CancelFunc // begins the server's end
	end     func()             // waits for it, too
}

// serve runs a server that change, if not nil, has configured, until the end of
// the test.
func serve(t testing.TB, change func(*Config)) *fixture {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, user: me.Username, socket: filepath.Join(shortDir(t), "ssh")}
	f.hostKey, _ = makeKey(t)
	f.key, f.keyPath = makeKey(t)
	config := Config{
		HostKey:        f.hostKey,
		AuthorizedKeys: []ssh.PublicKey{f.key.PublicKey()},
		SFTPServer:     []string{"/proc/self/exe", sftpArgument},
		Log:            slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if change != nil {
		change(&config)
	}
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	served := make(chan error, 1)
	go func() { served <- New(config).Serve(ctx, l) }()
	f.end = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve does not return")
		}
	})
	t.Cleanup(f.end)
	return f
}

// shortDir is a directory whose sockets have short enough names.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sshd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func makeKey(t testing.TB) (ssh.Signer, string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return signer, path
}

func (f *fixture) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", f.socket)
}

// login connects as a user with a key.
func (f *fixture) login(name string, key ssh.Signer) (*ssh.Client, error) {
	conn, err := f.dial(f.t.Context())
	if err != nil {
		return nil, err
	}
	c, channels, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{
		User:            name,
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.FixedHostKey(f.hostKey.PublicKey()),
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return ssh.NewClient(c, channels, requests), nil
}

// client is logged in until the end of the test.
func (f *fixture) client() *ssh.Client {
	f.t.Helper()
	c, err := f.login(f.user, f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (f *fixture) session() *ssh.Session { return newSession(f.t, f.client()) }

func newSession(t testing.TB, c *ssh.Client) *ssh.Session {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// output runs a command that must succeed.
func (f *fixture) output(command string) string {
	f.t.Helper()
	s := f.session()
	var stderr bytes.Buffer
	s.Stderr = &stderr
	out, err := s.Output(command)
	if err != nil {
		f.t.Fatalf("%s: %v: %s", command, err, stderr.String())
	}
	return string(out)
}

// within fails the test when do takes too long.
func within(t *testing.T, limit time.Duration, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s takes more than %v", what, limit)
	}
}

// eventually polls until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came about: %s", what)
		}
	}
}

// number reads a process id.
func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func processExists(pid int) bool { return syscall.Kill(pid, 0) == nil }

// isRunning is false for a zombie too: orphans in a test are not ours to reap.
func isRunning(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// transcript collects what a reader gives.
type transcript struct {
	mu  sync.Mutex
	all []byte
}

func newTranscript(r io.Reader) *transcript {
	t := &transcript{}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			t.mu.Lock()
			t.all = append(t.all, buf[:n]...)
			t.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return t
}

func (t *transcript) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.all)
}
