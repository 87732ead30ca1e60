package agent

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"banger/internal/guest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openTestRoot opens a directory as if it were the live root, with others in
// place of some of its directories.
func openTestRoot(t *testing.T, dir string, trees map[string]string, g given) *liveRoot {
	t.Helper()
	l := &liveRoot{trees: map[string]*os.File{}, rules: newArchiveRules(dir, g)}
	open := func(dir string) *os.File {
		f, err := os.Open(dir)
		must(t, err)
		l.open = append(l.open, f)
		return f
	}
	l.root = open(dir)
	for place, dir := range trees {
		l.trees[place] = open(dir)
	}
	t.Cleanup(l.close)
	return l
}

// untar reads an archive to its end and returns its entries by name, and the
// names in order.
func untar(t *testing.T, r io.Reader) (map[string]entry, []string) {
	t.Helper()
	all, err := io.ReadAll(r)
	must(t, err)
	if !bytes.HasSuffix(all, make([]byte, 1024)) {
		t.Error("the archive has no end mark")
	}
	entries, names := map[string]entry{}, []string(nil)
	for tr := tar.NewReader(bytes.NewReader(all)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return entries, names
		}
		must(t, err)
		content, err := io.ReadAll(tr)
		must(t, err)
		if _, twice := entries[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		entries[h.Name] = entry{*h, string(content)}
		names = append(names, h.Name)
	}
}

func archiveOf(t *testing.T, l *liveRoot) (map[string]entry, []string) {
	t.Helper()
	var b bytes.Buffer
	must(t, writeArchive(&b, l.root, l.trees, l.rules))
	return untar(t, &b)
}

func TestArchiveHasTheWholeTree(t *testing.T) {
	dir, home := t.TempDir(), t.TempDir()
	makeFiles(t, dir, map[string]string{
		"usr/bin/su": "s", "zz": "", "home/hidden": "below the mount", "proc/1/stat": "x", "tmp/t": "x", "lib/modules/6/a.ko": "x", "odd/\xff\xfe\n": "bytes",
		"odd/" + strings.Repeat("n", 200) + "/" + strings.Repeat("m", 200): "long",
	})
	makeFiles(t, home, map[string]string{"ann/f": "at home"})
	must(t, unix.Chmod(filepath.Join(dir, "usr/bin/su"), 0o4755))
	must(t, unix.Chmod(filepath.Join(dir, "tmp"), 0o1777))
	must(t, os.Chmod(home, 0o711))
	must(t, os.Link(filepath.Join(dir, "usr/bin/su"), filepath.Join(dir, "usr/bin/twin")))
	must(t, os.Symlink("/no/where", filepath.Join(dir, "l")))
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o640))
	must(t, os.Chtimes(filepath.Join(dir, "usr/bin/su"), entryTime, entryTime))
	xattrs := unix.Setxattr(filepath.Join(dir, "zz"), "user.note", []byte("a\x00b"), 0)
	socket := filepath.Join(dir, "socket")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: socket}))

	entries, names := archiveOf(t, openTestRoot(t, dir, map[string]string{"/home": home}, given{}))
	long := "odd/" + strings.Repeat("n", 200) + "/"
	want := []string{
		"./", "home/", "home/ann/", "home/ann/f", "l", "lib/", "lib/modules/", "odd/", long, long + strings.Repeat("m", 200),
		"odd/\xff\xfe\n", "pipe", "proc/", "tmp/", "usr/", "usr/bin/", "usr/bin/su", "usr/bin/twin", "zz",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	for name, mode := range map[string]int64{"usr/bin/su": 0o4755, "tmp/": 0o1777, "home/": 0o711, "pipe": 0o640} {
		if got := entries[name].Mode; got != mode {
			t.Errorf("%s has mode %#o, want %#o", name, got, mode)
		}
	}
	su := entries["usr/bin/su"]
	if su.content != "s" || !su.ModTime.Equal(entryTime) || su.Uid != os.Getuid() || su.Gid != os.Getgid() || su.Uname != "" {
		t.Errorf("su: %+v", su)
	}
	if twin := entries["usr/bin/twin"]; twin.Typeflag != tar.TypeLink || twin.Linkname != "usr/bin/su" {
		t.Errorf("the hard link: %+v", twin)
	}
	if l := entries["l"]; l.Typeflag != tar.TypeSymlink || l.Linkname != "/no/where" {
		t.Errorf("the symlink: %+v", l)
	}
	if got := entries["zz"].PAXRecords["SCHILY.xattr.user.note"]; xattrs == nil && got != "a\x00b" {
		t.Errorf("the attribute is %q", got)
	}
	if got := entries["home/ann/f"].content + entries["odd/\xff\xfe\n"].content; got != "at homebytes" {
		t.Errorf("contents: %q", got)
	}
}

func TestArchiveHasDevices(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Skip("can't make devices: ", err)
	}
	entries, _ := archiveOf(t, openTestRoot(t, dir, nil, given{}))
	if n := entries["null"]; n.Typeflag != tar.TypeChar || n.Devmajor != 1 || n.Devminor != 3 {
		t.Errorf("the device: %+v", n)
	}
}

func TestArchiveIsNobodysImage(t *testing.T) {
	dir := t.TempDir()
	makeFiles(t, dir, map[string]string{
		"etc/machine-id": strings.Repeat("a", 32), "var/lib/dbus/machine-id": strings.Repeat("a", 32),
		"etc/ssh/ssh_host_rsa_key": "k", "etc/ssh/ssh_host_rsa_key.pub": "k", "etc/ssh/ssh_config": "keep",
		"root/.ssh/authorized_keys": "ssh-ed25519 MINE me\n  ssh-ed25519 HOST banger\nssh-ed25519 OLD banger\n",
		"etc/hostname":              "fox", "etc/hosts": "127.0.0.1 localhost\n127.0.1.1\tfox\t# banger\n",
		"etc/resolv.conf": "x", "etc/profile.d/banger.sh": "export TOKEN=x", "etc/profile.d/mine.sh": "keep",
		"var/lib/systemd/random-seed": "x", "var/log/journal/abc/system.journal": "x", "var/log/syslog": "keep",
		"var/run/d.pid": "1", "var/lib/mysql/fox.pid": "1", "srv/notes.pid": "keep",
		"root/.claude/.credentials.json": "secret", "root/.old/token": "secret", "root/.claude/history": "keep",
		"root/.claude/" + tempPrefix + "ABC": "secret",
	})
	must(t, os.Link(filepath.Join(dir, "root/.claude/.credentials.json"), filepath.Join(dir, "root/backup")))
	entries, names := archiveOf(t, openTestRoot(t, dir, nil, given{
		Files: []string{"/root/.claude/.credentials.json", "/root/.old/token", "/root/gone"},
		Keys:  []string{"ssh-ed25519 HOST banger", "ssh-ed25519 OLD banger"},
	}))
	got := map[string]string{}
	for _, name := range names {
		if e := entries[name]; e.Typeflag != tar.TypeDir {
			got[name] = e.content
		}
	}
	want := map[string]string{
		"etc/machine-id": "", "var/lib/dbus/machine-id": "", "etc/ssh/ssh_config": "keep", "etc/hosts": "127.0.0.1 localhost\n",
		"root/.ssh/authorized_keys": "ssh-ed25519 MINE me\n", "etc/profile.d/mine.sh": "keep", "var/log/syslog": "keep",
		"srv/notes.pid": "keep", "root/.claude/history": "keep",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if !slices.Contains(names, "var/log/journal/") {
		t.Error("the directory of the journal is missing")
	}
}

func TestArchiveLeavesOutKeysOfTheHostOnly(t *testing.T) {
	dir := t.TempDir()
	makeFiles(t, dir, map[string]string{"root/.ssh/authorized_keys": "ssh-ed25519 HOST banger\n"})
	if _, names := archiveOf(t, openTestRoot(t, dir, nil, given{Keys: []string{"ssh-ed25519 HOST banger"}})); slices.Contains(names, "root/.ssh/authorized_keys") {
		t.Error("the file is there without a line")
	}
}

// In some images root's home is elsewhere, and /etc/profile.d as well.
func TestArchiveBehindSymlinks(t *testing.T) {
	root := testImage{"var/roothome/keep": "", "root": "-> /var/roothome", "usr/profile/keep": "", "etc/profile.d": "-> /usr/profile"}.build(t)
	config := guest.BootConfig{Env: map[string]string{"TOKEN": "x"}, AuthorizedKeys: []string{"ssh-ed25519 HOST banger"}}
	g, err := rememberGiven(root, filepath.Join(t.TempDir(), "given"), config)
	must(t, err)
	dir, err := os.Readlink(fdPath(root.f))
	must(t, err)
	must(t, writeEnvironment(root, config.Env))
	must(t, writeAuthorizedKeys(root, config.AuthorizedKeys))
	_, names := archiveOf(t, openTestRoot(t, dir, nil, g))
	for _, secret := range []string{"usr/profile/banger.sh", "var/roothome/.ssh/authorized_keys"} {
		if _, err := os.Stat(filepath.Join(dir, secret)); err != nil {
			t.Errorf("the test's own file: %v", err)
		}
		if slices.Contains(names, secret) {
			t.Errorf("%s is in the image", secret)
		}
	}
}

// changingWriter changes the tree when a name is written to it.
type changingWriter struct {
	bytes.Buffer
	name   string
	change func()
}

func (w *changingWriter) Write(p []byte) (int, error) {
	if w.change != nil && bytes.Contains(p, []byte(w.name)) {
		w.change()
		w.change = nil
	}
	return w.Buffer.Write(p)
}

func TestArchiveOfChangingFiles(t *testing.T) {
	dir := t.TempDir()
	makeFiles(t, dir, map[string]string{"a/shrinks": strings.Repeat("s", 3000), "a/grows": strings.Repeat("g", 3000), "b/f": "x", "c": "x", "d/f": "x"})
	must(t, os.Rename(filepath.Join(dir, "a/shrinks"), filepath.Join(dir, "a/z")))
	l := openTestRoot(t, dir, nil, given{})
	// Sizes change between the header and the content of a file.
	a := &archive{rules: l.rules, links: map[inode]linkTarget{}, buf: make([]byte, archiveChunk)}
	var b bytes.Buffer
	a.tw = tar.NewWriter(&b)
	for name, size := range map[string]int64{"a/z": 100, "a/grows": 5000} {
		f, err := os.Open(filepath.Join(dir, name))
		must(t, err)
		h := &tar.Header{Name: name, Size: 3000, Typeflag: tar.TypeReg}
		must(t, a.header(h))
		must(t, os.Truncate(f.Name(), size))
		must(t, a.content(h, f))
		must(t, f.Close())
	}
	must(t, a.tw.Close())
	entries, _ := untar(t, &b)
	if got, want := entries["a/z"].content, strings.Repeat("s", 100)+strings.Repeat("\x00", 2900); got != want {
		t.Error("a file that shrinks isn't filled with zeros")
	}
	if got := entries["a/grows"].content; got != strings.Repeat("g", 3000) {
		t.Error("a file that grows has another size")
	}
	// Names vanish, or become something else, after their directory was read.
	w := &changingWriter{name: "a/grows", change: func() {
		must(t, os.RemoveAll(filepath.Join(dir, "b")))
		must(t, os.Remove(filepath.Join(dir, "c")))
		must(t, os.RemoveAll(filepath.Join(dir, "d")))
		must(t, os.Symlink("a", filepath.Join(dir, "d")))
	}}
	must(t, a.reset(w).directory("/", l.root))
	must(t, a.tw.Close())
	if w.change != nil {
		t.Fatal("nothing was changed")
	}
	entries, _ = untar(t, &w.Buffer)
	if _, ok := entries["c"]; ok || entries["d"].Typeflag != tar.TypeSymlink {
		t.Errorf("got %v", entries)
	}
}

// reset makes the archive write to w from now on.
func (a *archive) reset(w io.Writer) *archive {
	a.tw = tar.NewWriter(w)
	return a
}
