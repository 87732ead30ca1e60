//go:build e2e

package oci

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger/internal/image/ext4"
	"banger/internal/image/oci/flatten"
	lt "banger/internal/image/oci/layertest"

	"golang.org/x/sys/unix"
)

// These tests compare a flattened image, mounted, with what GNU tar extracts
// of the same layers in order. They need root, for owners and devices and the
// mount.

func TestOracleOddLayers(t *testing.T) {
	privateMounts(t)
	acl := "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" +
		"\x04\x00\x05\x00\xff\xff\xff\xff" + "\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x05\x00\xff\xff\xff\xff"
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	root := lt.Dir("./", 0o755)
	base := lt.Tar(t, root, lt.Dir("etc", 0o755), lt.Reg("etc/a", "a"), lt.Reg("etc/b", "b").Owned(5, 6, 0o640),
		lt.Dir("usr", 0o755), lt.Dir("usr/lib", 0o755), lt.Reg("usr/lib/x", "x"), lt.Symlink("lib", "usr/lib"),
		lt.Symlink("abs", "/usr/lib"), lt.Symlink("usr/abs", "/etc"), lt.Dir("d", 0o2775), lt.Reg("d/one", "shared"), lt.Link("d/two", "d/one"))
	long := strings.Repeat("n", 255)
	for name, upper := range map[string][]any{
		"traversal in names":     {lt.Reg("../../../etc/a", "1"), lt.Reg("etc/../../etc/c", "2")},
		"absolute names":         {lt.Reg("/etc/a", "1"), lt.Dir("/etc/new", 0o700)},
		"traversal in links":     {lt.Symlink("up", "../../../../etc/a"), lt.Symlink("etc/out", "/../../etc")},
		"traversal in hardlinks": {lt.Link("hard", "../../../etc/a"), lt.Link("hard2", "/etc/b")},
		"absolute symlinks":      {lt.Reg("abs/new", "through"), lt.Reg("usr/abs/new", "through"), lt.Symlink("loop", "/loop"), lt.Symlink("none", "/no/such")},
		"devices":                {lt.Node("null", '3', 1, 3), lt.Node("disk", '4', 8, 17), lt.Node("big", '4', 259, 70000), lt.Node("pipe", '6', 0, 0)},
		"whiteouts":              {lt.Whiteout("etc/a"), lt.Whiteout("lib")},
		"whiteout of a parent":   {lt.Whiteout("etc"), lt.Dir("etc", 0o700), lt.Reg("etc/c", "c")},
		"whiteout through link":  {lt.Whiteout("lib/x")},
		"opaque directory":       {lt.Dir("etc", 0o750), lt.Opaque("etc"), lt.Reg("etc/c", "c")},
		"duplicates":             {lt.Reg("etc/a", "1"), lt.Symlink("etc/a", "b"), lt.Reg("etc/a", "3"), lt.Dir("etc", 0o711), lt.Dir("etc", 0o755)},
		"file through dir link":  {lt.Reg("lib/b", "b"), lt.Dir("lib/sub", 0o755), lt.Reg("lib/sub/c", "c")},
		"directory over link":    {lt.Dir("lib", 0o755), lt.Reg("lib/b", "b")},
		"directory over file":    {lt.Whiteout("etc/a"), lt.Dir("etc/a", 0o755), lt.Reg("etc/a/x", "x")},
		"link over file":         {lt.Symlink("etc/a", "b"), lt.Link("etc/b", "d/one")},
		"first hard link gone":   {lt.Whiteout("d/one")},
		"first hard link new":    {lt.Reg("d/one", "other")},
		"hard link to a symlink": {lt.Link("d/sym", "lib")},
		"non-UTF-8 names":        {lt.Reg("\xff\xfe", "raw"), lt.Symlink("l\xe9", "\xff"), lt.Dir("\x80d", 0o755), lt.Reg("\x80d/\n\t", "x")},
		"POSIX ACLs": {lt.Reg("acl", "x").Owned(0, 0, 0o775).Xattr("system.posix_acl_access", acl),
			lt.Xattr(lt.Xattr(lt.Dir("acls", 0o775), "system.posix_acl_access", acl), "system.posix_acl_default", acl)},
		"capabilities":    {lt.Reg("ping", "x").Owned(0, 0, 0o755).Xattr("security.capability", capability).Xattr("user.note", strings.Repeat("n", 900))},
		"owners":          {lt.Reg("o", "").Owned(4_000_000_000, 3_999_999_999, 0o7777), lt.Reg("p", "").Owned(65534, 65536, 0)},
		"long names":      {lt.Reg(long, "x"), lt.Dir(long[1:], 0o755), lt.Reg(long[1:]+"/"+long, "y"), lt.Symlink("s59", long[:59]), lt.Symlink("s60", long[:60]), lt.Symlink("s4000", strings.Repeat("t", 4000))},
		"missing parents": {lt.Reg("p/q/r", "r")},
		"many xattrs":     {lt.Reg("x", "").Xattr("user.aaaa", strings.Repeat("1", 500)).Xattr("user.b", strings.Repeat("2", 600)).Xattr("trusted.c", strings.Repeat("3", 700)).Xattr("security.d", strings.Repeat("4", 300))},
	} {
		t.Run(name, func(t *testing.T) {
			privateMounts(t) // subtests have goroutines, so threads, of their own
			compare(t, [][]byte{base, lt.Tar(t, upper...)}, lt.Gzip)
		})
	}
}

// A sparse file, in each of the formats that GNU tar has for them, takes no
// space in the image.
func TestOracleSparse(t *testing.T) {
	privateMounts(t)
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	const size = 4 << 30
	for _, at := range []int64{0, 1 << 30, size - 100} {
		if _, err := f.WriteAt([]byte("some data"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, format := range []string{"--format=gnu", "--format=posix --sparse-version=0.0", "--format=posix"} {
		t.Run(format, func(t *testing.T) {
			privateMounts(t)
			args := append(strings.Fields(format), "-C", dir, "-cSf", "-", "sparse")
			data, err := exec.Command("tar", args...).Output()
			if err != nil {
				t.Fatal(err)
			}
			image := filepath.Join(t.TempDir(), "rootfs.ext4")
			layer := flatten.Layer{Path: lt.WriteFile(t, data), Size: int64(len(data))}
			start := time.Now()
			err = ext4.Create(context.Background(), image, func(w *ext4.Writer) error {
				_, err := flatten.Layers(context.Background(), []flatten.Layer{layer}, w, flatten.Options{})
				return err
			}, ext4.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%.1f s", time.Since(start).Seconds())
			var st unix.Stat_t
			if err := unix.Stat(image, &st); err != nil {
				t.Fatal(err)
			}
			if took := st.Blocks * 512; took > 16<<20 {
				t.Errorf("the image takes %d MiB", took>>20)
			}
			mnt := t.TempDir()
			if out, err := exec.Command("mount", "-o", "loop,ro", image, mnt).CombinedOutput(); err != nil {
				t.Skipf("can't mount the image: %v\n%s", err, out)
			}
			defer exec.Command("umount", mnt).Run()
			if out, err := exec.Command("cmp", filepath.Join(dir, "sparse"), filepath.Join(mnt, "sparse")).CombinedOutput(); err != nil {
				t.Errorf("the file differs: %v\n%s", err, out)
			}
		})
	}
}

func TestOracleManyFiles(t *testing.T) {
	privateMounts(t)
	entries := []any{lt.Dir("./", 0o755), lt.Dir("flat", 0o755)}
	for i := range 50_000 {
		entries = append(entries, lt.Reg(fmt.Sprintf("flat/file-%d", i), fmt.Sprint(i)))
	}
	for i := range 500 {
		entries = append(entries, lt.Dir(fmt.Sprintf("deep/%d", i), 0o755))
		for j := range 100 {
			entries = append(entries, lt.Reg(fmt.Sprintf("deep/%d/%d", i, j), fmt.Sprint(i*j)))
		}
	}
	start := time.Now()
	compare(t, [][]byte{lt.Tar(t, entries...)}, lt.Zstd)
	t.Logf("100,500 files compared in %.1f s", time.Since(start).Seconds())
}

// A tree of real programs and configuration in four layers.
func TestOracleHostFiles(t *testing.T) {
	privateMounts(t)
	compare(t, [][]byte{
		hostTar(t, "bin", "lib", "etc", "usr/sbin", "usr/lib/apt"),
		hostTar(t, "usr/share/zoneinfo", "usr/share/perl5", "etc/ssl"),
		lt.Tar(t, lt.Whiteout("etc/ssl/certs"), lt.Dir("usr/share/perl5", 0o755), lt.Opaque("usr/share/perl5"), lt.Reg("lib/in-usr-lib", "x")),
		hostTar(t, "etc/ssl"),
	}, lt.Gzip)
}
