package dockerbuild

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm/vmmtest"
)

// fakeVM is the only VM that its service has. Its guest runs commands by run,
// whose result is the exit status.
type fakeVM struct {
	vm      api.VM
	access  api.Access
	config  *ssh.ServerConfig
	run     func(command string, out, errOut io.Writer) uint32
	deleted bool
}

func newFakeVM(t *testing.T) *fakeVM {
	t.Helper()
	signer := func() (ssh.Signer, []byte) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ssh.NewSignerFromKey(key)
		if err != nil {
			t.Fatal(err)
		}
		block, err := ssh.MarshalPrivateKey(key, "")
		if err != nil {
			t.Fatal(err)
		}
		return s, pem.EncodeToMemory(block)
	}
	_, userKey := signer()
	hostKey, _ := signer()
	keyPath := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyPath, userKey, 0o600); err != nil {
		t.Fatal(err)
	}
	f := &fakeVM{
		vm:     api.VM{ID: "0123456789ab", Shape: api.Shape{DiskBytes: 8 << 20}},
		access: api.Access{User: "root", KeyPath: keyPath, HostKey: string(ssh.MarshalAuthorizedKey(hostKey.PublicKey()))},
		config: &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }},
	}
	f.config.AddHostKey(hostKey)
	return f
}

func (f *fakeVM) Create(context.Context, api.CreateVM, api.ProgressFunc) (api.VM, error) {
	return f.vm, nil
}
func (f *fakeVM) Delete(context.Context, string, api.DeleteVM) error { f.deleted = true; return nil }
func (f *fakeVM) Access(context.Context, string) (api.Access, error) { return f.access, nil }

func (f *fakeVM) Dial(_ context.Context, _ string, port uint32) (guest.Conn, error) {
	l, err := net.Listen("unix", "") // a socket pair with half-close
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ours, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		return nil, err
	}
	theirs, err := l.Accept()
	if err != nil {
		return nil, err
	}
	if port == guest.PortSSH {
		go f.serveSSH(theirs)
	} else {
		go vmmtest.NewAgent(nil).Serve(port, theirs)
	}
	return ours.(*net.UnixConn), nil
}

func (f *fakeVM) serveSSH(conn net.Conn) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, f.config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for n := range channels {
		channel, requests, err := n.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				_ = r.Reply(r.Type == "exec", nil)
				if r.Type != "exec" {
					continue
				}
				var exec struct{ Command string }
				_ = ssh.Unmarshal(r.Payload, &exec)
				go func() {
					status := f.run(exec.Command, channel, channel.Stderr())
					_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
					_ = channel.Close()
				}()
			}
		}()
	}
}

// build runs a build and returns what came of it.
func (f *fakeVM) build(t *testing.T, w io.Writer) error {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, map[string]string{"Dockerfile": "FROM scratch\n"})
	b := &Builder{VMs: f, Image: "x"}
	err := b.BuildDockerfile(t.Context(), api.BuildImage{File: filepath.Join(dir, "Dockerfile"), Context: dir}, w, nil)
	if !f.deleted {
		t.Error("the VM is left")
	}
	return err
}

func TestBuildDockerfile(t *testing.T) {
	f := newFakeVM(t)
	f.run = func(command string, out, _ io.Writer) uint32 {
		if strings.Contains(command, "save") {
			_, _ = io.WriteString(out, "the image")
		}
		return 0
	}
	var got bytes.Buffer
	if err := f.build(t, &got); err != nil || got.String() != "the image" {
		t.Errorf("got %q, %v", got.String(), err)
	}
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// A VM that sends an image without an end is stopped at the size of its disk.
func TestImageWithoutEnd(t *testing.T) {
	f := newFakeVM(t)
	f.run = func(command string, out, _ io.Writer) uint32 {
		for strings.Contains(command, "save") {
			if _, err := out.Write(make([]byte, 32<<10)); err != nil {
				return 1
			}
		}
		return 0
	}
	var got counter
	err := f.build(t, &got)
	if !errors.Is(err, api.ErrGuest) || !strings.Contains(err.Error(), "disk of 8 MiB") {
		t.Errorf("got %v", err)
	}
	if int64(got) > f.vm.DiskBytes*9/8 {
		t.Errorf("%d bytes were taken", got)
	}
}

// What Docker says is neither kept nor quoted at any length.
func TestOutputWithoutEnd(t *testing.T) {
	f := newFakeVM(t)
	f.run = func(_ string, _, errOut io.Writer) uint32 {
		for range 64 {
			if _, err := errOut.Write(bytes.Repeat([]byte("no "), 32<<10)); err != nil {
				return 1
			}
		}
		for range 100 {
			_, _ = errOut.Write(append(bytes.Repeat([]byte("x"), 2000), '\n'))
		}
		return 1
	}
	err := f.build(t, io.Discard)
	if !errors.Is(err, api.ErrGuest) || len(err.Error()) > guest.MaxText+100 {
		t.Errorf("an error of %d bytes: %.200v", len(err.Error()), err)
	}
}
