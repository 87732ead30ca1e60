package image

import (
	"io/fs"
	"maps"
	"runtime"
	"slices"
)

// recipe is how an image is made of a distribution's packages. Paths are
// relative to the root of the image's tree.
type recipe struct {
	Distro      string
	Arch        string // as Debian and Go call it
	Suite       string
	Packages    []string // besides the required ones
	DpkgOptions []string // for this and every later dpkg in the image
	Hooks       []string // shell commands after the installation, with the tree as $1
	Empty       []string // directories whose content is removed
	Remove      []string
	Masked      []string // systemd units that can't start
	Files       []file
	RealDirs    []string // absolute, in the guest
	Kernel      string
}

// file is written into the image.
type file struct {
	Path    string
	Mode    fs.FileMode
	Content string
}

// catalog returns the known images for this machine, by name.
func catalog() map[string]recipe {
	if runtime.GOARCH != "amd64" {
		return nil
	}
	return map[string]recipe{
		"debian-minimal": {
			Distro: "debian bookworm",
			Arch:   "amd64",
			Suite:  "bookworm",
			Packages: []string{
				"systemd", "systemd-sysv", "udev", "dbus",
				"iproute2", "iputils-ping", "netbase", "ca-certificates",
				"procps", "kmod", "less", "vim-tiny", "git", "make",
			},
			DpkgOptions: []string{
				"path-exclude=/usr/share/doc/*",
				"path-include=/usr/share/doc/*/copyright",
				"path-exclude=/usr/share/man/*",
				"path-exclude=/usr/share/info/*",
				"path-exclude=/usr/share/locale/*",
				"path-include=/usr/share/locale/locale.alias",
			},
			Empty:    volatileDirs(),
			Remove:   hostTraces(),
			Masked:   needlessUnits(),
			Files:    commonFiles(),
			RealDirs: defaultRealDirs(),
			Kernel:   "generic-6.12",
		},
	}
}

// Names returns the names of the catalog, sorted.
func Names() []string { return slices.Sorted(maps.Keys(catalog())) }

// defaultRealDirs are directories for which an overlay won't do: container
// engines stack overlays of their own there, and people's files are many,
// big, and often written to.
func defaultRealDirs() []string {
	return []string{"/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/root", "/home"}
}

// volatileDirs are mounted over in the guest. Building as a user, without the
// right to make device nodes, must lead to the same image as building as root.
func volatileDirs() []string { return []string{"dev", "proc", "run", "sys", "tmp"} }

// hostTraces are files that mmdebstrap copies from the host, or that must
// differ from VM to VM. The agent writes what a guest needs of them.
func hostTraces() []string {
	return []string{
		"etc/hostname",
		"etc/resolv.conf",
		"var/lib/systemd/random-seed",
		"var/lib/dbus/machine-id",
		"root/.ssh",
	}
}
