//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// listen opens a port on the loopback interface of the network namespace that
// this host's bangerd is in.
func (h *host) listen(t *testing.T) net.Listener {
	t.Helper()
	opened := make(chan error, 1)
	var listener net.Listener
	go func() {
		// The thread is in another namespace afterwards: it ends with this
		// goroutine, as it stays locked.
		runtime.LockOSThread()
		opened <- func() error {
			if h.netns != "" {
				f, err := os.Open("/run/netns/" + h.netns)
				if err != nil {
					return err
				}
				defer f.Close()
				if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
					return fmt.Errorf("enter the network namespace: %w", err)
				}
			}
			var err error
			listener, err = net.Listen("tcp", "127.0.0.1:0")
			return err
		}()
	}()
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// serve answers requests on a port of the host's namespace and returns its
// address.
func (h *host) serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	listener := h.listen(t)
	server := &http.Server{Handler: handler} //nolint:gosec // on loopback, for one test
	go func() {
		if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Print(err)
		}
	}()
	t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

// serveImage serves a container image in a registry and returns its reference.
func (h *host) serveImage(t *testing.T, img v1.Image) string {
	t.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	outside := &host{} // this process's own namespace
	inside, here := h.serve(t, handler), outside.serve(t, handler)
	tag, err := name.ParseReference(here + "/team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	return inside + "/team/app:v1"
}

// makeContainer makes a container image of a tar.
func makeContainer(t *testing.T, tree []byte, config v1.Config) v1.Image {
	t.Helper()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tree)), nil },
		tarball.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// busyboxTree is a tar of a small system without an init or a package manager.
func busyboxTree(t *testing.T) []byte {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("busybox is missing: install busybox-static, or run make test")
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(header tar.Header, content string) {
		header.Size = int64(len(content))
		if err := w.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin/", "etc/", "srv/", "srv/app/", "root/", "tmp/"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, "")
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755}, string(program))
	for _, applet := range strings.Fields("sh cat echo env id ls pwd sleep touch true") {
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + applet, Linkname: "busybox", Mode: 0o777}, "")
	}
	add(tar.Header{Name: "etc/passwd", Mode: 0o644}, "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/srv/app:/bin/sh\n")
	add(tar.Header{Name: "etc/group", Mode: 0o644}, "root:x:0:\napp:x:1000:\n")
	add(tar.Header{Name: "bin/entry", Mode: 0o755}, "#!/bin/sh\necho entry\nexec \"$@\"\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
