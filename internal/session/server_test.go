package session

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"

	"banger/internal/api"
)

// server is a small SSH server that runs commands on this machine the way an
// agent does in a guest.
type server struct {
	t         *testing.T
	access    api.Access
	config    *ssh.ServerConfig
	refuseEnv bool
	users     []string // that may log in
	// handle replaces the running of commands where it is set.
	handle func(ch ssh.Channel, command string)
	// request sees the requests that belong to no channel, if it is set.
	request func(name string)

	mu    sync.Mutex
	conns []net.Conn
	sizes chan [2]uint32 // columns, rows of every window-change
}

func newServer(t *testing.T) *server {
	t.Helper()
	userKey, keyPath := makeKey(t)
	hostKey, _ := makeKey(t)
	s := &server{t: t, users: []string{"root"}, sizes: make(chan [2]uint32, 16)}
	s.config = &ssh.ServerConfig{
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if !slices.Contains(s.users, meta.User()) {
				return nil, errors.New("unknown user")
			}
			if string(key.Marshal()) != string(userKey.PublicKey().Marshal()) {
				return nil, errors.New("unknown key")
			}
			return nil, nil
		},
	}
	s.config.AddHostKey(hostKey)
	s.access = api.Access{
		User:    "root",
		KeyPath: keyPath,
		HostKey: string(ssh.MarshalAuthorizedKey(hostKey.PublicKey())),
	}
	t.Cleanup(s.hangUp)
	return s
}

func makeKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
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
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer, path
}

// dial connects by a socket pair, which like a real connection has buffers.
func (s *server) dial(context.Context) (net.Conn, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		ends[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	s.conns = append(s.conns, ends[1])
	s.mu.Unlock()
	go s.serve(ends[1])
	return ends[0], nil
}

// hangUp breaks every connection.
func (s *server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
}

func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return
	}
	go func() {
		for req := range requests {
			if s.request != nil {
				s.request(req.Type)
			}
			if req.WantReply {
				_ = req.Reply(false, nil)
			}
		}
	}()
	for n := range channels {
		ch, reqs, err := n.Accept()
		if err != nil {
			return
		}
		go s.session(ch, reqs)
	}
}

func (s *server) session(ch ssh.Channel, reqs <-chan *ssh.Request) {
	cmd := exec.Command("/bin/sh")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "SHELL=/bin/sh"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var tty *os.File
	for req := range reqs {
		ok := true
		var start func()
		switch req.Type {
		case "env":
			var kv struct{ Name, Value string }
			_ = ssh.Unmarshal(req.Payload, &kv)
			if ok = !s.refuseEnv; ok {
				cmd.Env = append(cmd.Env, kv.Name+"="+kv.Value)
			}
		case "pty-req":
			var p struct {
				Term                string
				Columns, Rows, W, H uint32
				Modes               string
			}
			_ = ssh.Unmarshal(req.Payload, &p)
			cmd.Env = append(cmd.Env, "TERM="+p.Term)
			var slave *os.File
			tty, slave, _ = pty.Open()
			_ = pty.Setsize(tty, &pty.Winsize{Cols: uint16(p.Columns), Rows: uint16(p.Rows)})
			cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
			cmd.SysProcAttr.Setctty = true
		case "window-change":
			columns, rows := binary.BigEndian.Uint32(req.Payload), binary.BigEndian.Uint32(req.Payload[4:])
			s.sizes <- [2]uint32{columns, rows}
		case "signal":
			var sig struct{ Name string }
			_ = ssh.Unmarshal(req.Payload, &sig)
			if cmd.Process != nil {
				_ = syscall.Kill(-cmd.Process.Pid, syscall.Signal(signalNumber(sig.Name)))
			}
		case "shell", "exec":
			var line struct{ Line string }
			if req.Type == "exec" {
				_ = ssh.Unmarshal(req.Payload, &line)
				cmd.Args = append(cmd.Args, "-c", line.Line)
			}
			// A command that ends before the reply would end the channel first.
			start = func() { s.start(ch, cmd, tty) }
			if s.handle != nil {
				start = func() { go s.handle(ch, line.Line) }
			}
		default:
			ok = false
		}
		if req.WantReply {
			_ = req.Reply(ok, nil)
		}
		if start != nil {
			start()
		}
	}
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGHUP)
	}
}

func (s *server) start(ch ssh.Channel, cmd *exec.Cmd, tty *os.File) {
	if tty != nil {
		if err := cmd.Start(); err != nil {
			s.t.Error(err)
			return
		}
		cmd.Stdin.(*os.File).Close()
		go func() { _, _ = io.Copy(tty, ch) }()
		go func() {
			_, _ = io.Copy(ch, tty)
			finish(ch, cmd.Wait())
		}()
		return
	}
	// Not cmd.Stdin: Wait would wait for the client's end of input.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.t.Error(err)
		return
	}
	cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
	if err := cmd.Start(); err != nil {
		s.t.Error(err)
		return
	}
	go func() {
		_, _ = io.Copy(stdin, ch)
		stdin.Close()
	}()
	go func() { finish(ch, cmd.Wait()) }()
}

// finish reports how a command ended and closes its channel.
func finish(ch ssh.Channel, err error) {
	var exit *exec.ExitError
	status := syscall.WaitStatus(0)
	if errors.As(err, &exit) {
		status = exit.Sys().(syscall.WaitStatus)
	}
	if status.Signaled() {
		_, _ = ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Signal    string
			Core      bool
			Msg, Lang string
		}{Signal: strings.TrimPrefix(signalName(status.Signal()), "SIG")}))
	} else {
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status.ExitStatus())}))
	}
	_ = ch.CloseWrite()
	_ = ch.Close()
}
