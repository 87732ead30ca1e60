package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testImage is a root filesystem: programs and symlinks (target begins with
// "-> "), hard links ("= "), and other files.
type testImage map[string]string

const program = "#!"

func (image testImage) build(t *testing.T) *rootDir {
	t.Helper()
	dir := t.TempDir()
	var links []func()
	for name, content := range image {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			must(t, os.Symlink(target, path))
		} else if target, ok := strings.CutPrefix(content, "= "); ok {
			links = append(links, func() { must(t, os.Link(filepath.Join(dir, target), path)) })
		} else if content == program {
			must(t, os.WriteFile(path, []byte(name), 0o755))
		} else {
			must(t, os.WriteFile(path, []byte(content), 0o644))
		}
	}
	for _, link := range links {
		link()
	}
	root, err := openRootDir(dir)
	must(t, err)
	t.Cleanup(func() { _ = root.Close() })
	return root
}

func TestFindInit(t *testing.T) {
	const alpineInittab = "# /etc/inittab\n\n::sysinit:/sbin/openrc sysinit\n::sysinit:/sbin/openrc boot\n::wait:/sbin/openrc default\ntty1::respawn:/sbin/getty 38400 tty1\n"
	for name, test := range map[string]struct {
		image testImage
		want  string
	}{
		"nothing":                  {testImage{}, ""},
		"a static binary":          {testImage{"app": program}, ""},
		"systemd":                  {testImage{"usr/lib/systemd/systemd": program, "lib": "-> usr/lib", "sbin/init": "-> /lib/systemd/systemd"}, "/sbin/init"},
		"systemd without a link":   {testImage{"usr/lib/systemd/systemd": program, "bin/sh": program}, "/usr/lib/systemd/systemd"},
		"systemd behind busybox":   {testImage{"usr/lib/systemd/systemd": program, "bin/busybox": program, "sbin/init": "-> /bin/busybox"}, "/usr/lib/systemd/systemd"},
		"alpine's container":       {testImage{"bin/busybox": program, "bin/sh": "-> /bin/busybox", "sbin/init": "-> /bin/busybox", "etc/inittab": alpineInittab}, ""},
		"alpine with openrc":       {testImage{"bin/busybox": program, "sbin/init": "-> /bin/busybox", "etc/inittab": alpineInittab, "sbin/openrc": program}, "/sbin/init"},
		"busybox by hard links":    {testImage{"bin/busybox": program, "bin/init": "= bin/busybox", "bin/sh": "= bin/busybox"}, ""},
		"busybox without its name": {testImage{"bin/sh": program, "bin/init": "= bin/sh"}, ""},
		"busybox with a rcS":       {testImage{"bin/busybox": program, "sbin/init": "-> ../bin/busybox", "etc/init.d/rcS": program}, "/sbin/init"},
		"busybox, rcS not read":    {testImage{"bin/busybox": program, "sbin/init": "-> ../bin/busybox", "etc/init.d/rcS": program, "etc/inittab": "::respawn:/bin/sh\n"}, ""},
		"busybox, step by PATH":    {testImage{"bin/busybox": program, "sbin/init": "-> /bin/busybox", "bin/mount": "-> busybox", "etc/inittab": "::sysinit:-mount -a\n"}, "/sbin/init"},
		"sysvinit":                 {testImage{"sbin/init": program, "etc/inittab": "id:2:initdefault:\nsi::sysinit:/etc/init.d/rcS\n", "etc/init.d/rcS": program}, "/sbin/init"},
		"sysvinit, not set up":     {testImage{"sbin/init": program, "etc/inittab": "si::sysinit:/etc/init.d/rcS\n"}, ""},
		"the image's own":          {testImage{"sbin/init": program, "bin/sh": program}, "/sbin/init"},
		"openrc-init":              {testImage{"sbin/init": "-> openrc-init", "sbin/openrc-init": program, "sbin/openrc": program, "etc/runlevels/boot/x": ""}, "/sbin/init"},
		"openrc-init, not set up":  {testImage{"sbin/init": "-> openrc-init", "sbin/openrc-init": program}, ""},
		"runit":                    {testImage{"sbin/init": "-> runit-init", "sbin/runit-init": program, "etc/runit/1": program}, "/sbin/init"},
		"a shell":                  {testImage{"sbin/init": "-> /bin/bash", "bin/bash": program}, ""},
		"not executable":           {testImage{"sbin/init": "text"}, ""},
		"a dangling symlink":       {testImage{"sbin/init": "-> /lib/systemd/systemd"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := test.image.build(t)
			got := findInit(root)
			if got != test.want {
				t.Errorf("found %q, want %q", got, test.want)
			}
			if want := strings.HasPrefix(name, "systemd"); isSystemd(root, got) != want {
				t.Errorf("it is systemd: %v", !want)
			}
		})
	}
}

func TestMountPointsAreMade(t *testing.T) {
	root := testImage{"app": program, "srv": "-> /data"}.build(t)
	for name, want := range map[string]string{"/root": "/root", "/var/lib/docker": "/var/lib/docker", "/lib/modules": "/lib/modules", "/proc": "/proc"} {
		f, err := root.mkdirAll(name, 0o755)
		must(t, err)
		_ = f.Close()
		if got, err := root.resolve(name); err != nil || got != want {
			t.Errorf("%s is at %q (%v)", name, got, err)
		}
	}
	must(t, makeWorkDir(root, "/usr/src/app"))
	if !root.exists("/usr/src/app") {
		t.Error("the working directory is missing")
	}
	if err := makeWorkDir(root, "/app"); err == nil {
		t.Error("a program became a working directory")
	}
}

func TestSeedComesFromTheImageIfUntouched(t *testing.T) {
	image, upper := t.TempDir(), t.TempDir()
	makeFiles(t, image, map[string]string{"home/f": "", "srv/f": "", "file": ""})
	makeFiles(t, upper, map[string]string{"srv/g": ""})
	for dir, want := range map[string]string{"/home": image + "/home", "/srv": "/merged/srv", "/file": "/merged/file", "/none": "/merged/none"} {
		if got := seedSource(dir, image, upper, "/merged"); got != want {
			t.Errorf("%s is copied from %s, want %s", dir, got, want)
		}
	}
}
