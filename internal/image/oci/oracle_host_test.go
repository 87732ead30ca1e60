//go:build e2e

package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"banger/internal/image/ext4"
	"banger/internal/image/oci/flatten"
	lt "banger/internal/image/oci/layertest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// privateMounts gives this test a mount namespace of its own, which ends with
// it, and returns a function that keeps it on its thread.
func privateMounts(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	runtime.LockOSThread() // never unlocked: the thread, and its mounts, end with the test
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skipf("can't have a mount namespace: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
}

// hostDir is where the oracle's root has the host, whose tar it runs.
const hostDir = ".host"

// oracle is a directory that layers are extracted into.
type oracle struct{ dir string }

func newOracle(t *testing.T) *oracle {
	t.Helper()
	o := &oracle{t.TempDir()}
	inMemory(t, o.dir)
	if err := os.Chmod(o.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	host := filepath.Join(o.dir, hostDir)
	if err := os.Mkdir(host, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/", host, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(host, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	// Nothing that the layers do may reach the host.
	if err := unix.Mount("", host, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return o
}

// inMemory mounts a tmpfs on a directory, unless the kernel's can't hold all
// that tars can: 100,000 small files take minutes on a slow disk.
func inMemory(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	unmount := func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	}
	if err := unix.Setxattr(dir, "user.test", nil, 0); err != nil { // before Linux 6.6
		unmount()
		return
	}
	if err := unix.Removexattr(dir, "user.test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unmount)
}

// run runs one of the host's programs with the oracle as its root, so that
// links can't lead it out.
func (o *oracle) run(t *testing.T, stdin []byte, program string, args ...string) {
	t.Helper()
	libs := "/.host/lib/x86_64-linux-gnu:/.host/usr/lib/x86_64-linux-gnu:/.host/lib/aarch64-linux-gnu:/.host/usr/lib/aarch64-linux-gnu:/.host/lib64"
	loaders, err := filepath.Glob("/lib*/ld-linux-*.so.*")
	if err != nil || len(loaders) == 0 {
		t.Skip("no dynamic loader of glibc found")
	}
	// The usual name is an absolute link, which means something else in there.
	loader, err := filepath.EvalSymlinks(loaders[0])
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{o.dir, "/" + hostDir + loader, "--library-path", libs, "/" + hostDir + program}, args...)
	cmd := exec.Command("/usr/sbin/chroot", args...)
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC"}
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
}

// apply does what the specification says about whiteouts, then extracts.
func (o *oracle) apply(t *testing.T, layer []byte) {
	t.Helper()
	tr := tar.NewReader(bytes.NewReader(layer))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		dir, base := path.Split(path.Clean("/" + h.Name))
		switch {
		case base == ".wh..wh..opq":
			o.run(t, nil, "/usr/bin/find", dir, "-mindepth", "1", "-delete")
		case strings.HasPrefix(base, ".wh."):
			o.run(t, nil, "/bin/rm", "-rf", dir+strings.TrimPrefix(base, ".wh."))
		}
	}
	o.run(t, layer, "/bin/tar", "-C", "/", "-xpPf", "-", "--numeric-owner", "--same-owner",
		"--xattrs", "--xattrs-include=*", "--exclude=.wh.*")
}

// flattenAndMount makes an image of layers and mounts it.
func flattenAndMount(t *testing.T, layers []flatten.Layer) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "rootfs.ext4")
	err := ext4.Create(context.Background(), image, func(w *ext4.Writer) error {
		_, err := flatten.Layers(context.Background(), layers, w, flatten.Options{TempDir: t.TempDir()})
		return err
	}, ext4.Options{})
	if err != nil {
		t.Fatalf("make the image: %v", err)
	}
	if out, err := exec.Command("/usr/sbin/e2fsck", "-fn", image).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-o", "loop,ro", image, dir).CombinedOutput(); err != nil {
		t.Skipf("can't mount the image: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return dir
}

// compare fails the test unless the layers make the tree that tar does.
func compare(t *testing.T, tars [][]byte, compress func(testing.TB, []byte) []byte) {
	t.Helper()
	o := newOracle(t)
	var layers []flatten.Layer
	for _, data := range tars {
		o.apply(t, data)
		file := compress(t, data)
		layers = append(layers, flatten.Layer{
			Path: lt.WriteFile(t, file), Digest: lt.Digest(file), DiffID: lt.Digest(data), Size: int64(len(file)),
		})
	}
	want := describeTree(t, o.dir)
	got := describeTree(t, flattenAndMount(t, layers))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tree (-tar +image):\n%s", diff)
	}
}
