//go:build e2e

package oci

import (
	"context"
	"errors"
	"os/exec"
	"testing"

	lt "banger/internal/image/oci/layertest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// hostTar packs files of this host, which is a Debian.
func hostTar(t *testing.T, args ...string) []byte {
	t.Helper()
	data, err := exec.Command("tar", append([]string{"-C", "/", "--xattrs", "--format=posix", "-cf", "-"}, args...)...).Output()
	var exit *exec.ExitError
	changed := errors.As(err, &exit) && exit.ExitCode() == 1 // a file did, meanwhile
	if err != nil && !changed {
		t.Fatalf("pack the host's files: %v", err)
	}
	return data
}

// alpineLike is a tree like that of Alpine Linux: everything is a link to one
// program, and a package database is in text files.
func alpineLike(t *testing.T) [][]byte {
	t.Helper()
	entries := []any{lt.Dir("./", 0o755), lt.Dir("bin", 0o755), lt.Dir("sbin", 0o755), lt.Dir("lib/apk/db", 0o755), lt.Dir("etc", 0o755),
		lt.Dir("tmp", 0o1777), lt.Dir("var", 0o755), lt.Dir("run", 0o755), lt.Symlink("var/run", "../run"),
		lt.Reg("bin/busybox", "#!program").Owned(0, 0, 0o755), lt.Reg("bin/bbsuid", "#!program").Owned(0, 0, 0o4111),
		lt.Reg("lib/apk/db/installed", "P:busybox\n"), lt.Reg("etc/shadow", "root:*::0:::::\n").Owned(0, 42, 0o640)}
	for _, applet := range []string{"sh", "ls", "cat", "mount"} {
		entries = append(entries, lt.Symlink("bin/"+applet, "/bin/busybox"), lt.Link("sbin/"+applet, "bin/busybox"))
	}
	return [][]byte{
		lt.Tar(t, entries...),
		lt.Tar(t, lt.Reg("var/run/through-the-link", "x"), lt.Whiteout("tmp"), lt.Reg("lib/apk/db/installed", "P:busybox\nP:openssh\n")),
	}
}

// Trees that went through a registry are those that tar extracts.
func TestPulledTrees(t *testing.T) {
	privateMounts(t)
	host := startRegistry(t, "", "")
	for repo, tars := range map[string][][]byte{
		"alpine-like": alpineLike(t),
		"debian-like": {hostTar(t, "bin", "usr/bin/dpkg", "usr/bin/passwd", "etc/apt", "etc/passwd", "etc/group", "usr/lib/apt", "var/lib/dpkg/status"),
			lt.Tar(t, lt.Whiteout("etc/apt"), lt.Reg("bin/in-usr-bin", "x")), hostTar(t, "etc/apt")},
	} {
		t.Run(repo, func(t *testing.T) {
			privateMounts(t)
			ref, err := name.ParseReference(host + "/" + repo)
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.Write(ref, imageOf(t, "linux/amd64", tars...)); err != nil {
				t.Fatal(err)
			}
			img, err := Pull(context.Background(), ref.Name(), Options{
				CacheDir: t.TempDir(), Platform: "linux/amd64", Keychain: authn.NewMultiKeychain(),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			o := newOracle(t)
			for _, data := range tars {
				o.apply(t, data)
			}
			if diff := cmp.Diff(describeTree(t, o.dir), describeTree(t, flattenAndMount(t, img.Layers))); diff != "" {
				t.Errorf("tree (-tar +image):\n%s", diff)
			}
		})
	}
}
