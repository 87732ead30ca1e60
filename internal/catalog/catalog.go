// Package catalog knows the images and kernels that banger offers: what they
// are, where to get them, and how to build them of a distribution's packages.
// The list is catalog.toml, which is part of the program; its format is
// catalog.schema.json.
package catalog

import "io/fs"

// Catalog is a list of images and kernels, each with a name of its own kind.
type Catalog struct {
	Images  []Image  `toml:"image"`
	Kernels []Kernel `toml:"kernel"`
	// Bases are recipes that others begin with. Those of Images have been
	// completed with them.
	Bases map[string]*ImageRecipe `toml:"base"`
}

// Image is an image that can be had.
type Image struct {
	Name        string       `toml:"name"`
	Description string       `toml:"description"`
	Distro      string       `toml:"distro"` // e.g. "debian bookworm"
	Arch        []string     `toml:"arch"`   // machines that the recipe works for, as Debian and Go call them
	Kernel      string       `toml:"kernel"` // name of the kernel that boots it
	DiskBytes   int64        `toml:"disk_bytes"`
	Bundles     []Bundle     `toml:"bundle"`
	Recipe      *ImageRecipe `toml:"recipe"`
}

// Kernel is a kernel that can be had.
type Kernel struct {
	Name        string        `toml:"name"`
	Description string        `toml:"description"`
	Arch        []string      `toml:"arch"`
	DiskBytes   int64         `toml:"disk_bytes"`
	Bundles     []Bundle      `toml:"bundle"`
	Recipe      *KernelRecipe `toml:"recipe"`
}

// Bundle is a published file that holds an image or a kernel for one machine.
type Bundle struct {
	Arch   string `toml:"arch"`
	URL    string `toml:"url"` // http or https
	SHA256 string `toml:"sha256"`
	Bytes  int64  `toml:"bytes"`
}

// ImageRecipe is how an image is made of a distribution's packages. Paths are
// relative to the root of the image's tree. A recipe's commands run with the
// rights of bangerd: only recipes in the program and in the user's own files
// are run.
type ImageRecipe struct {
	Distro        string       `toml:"distro"` // in a recipe file; in the catalog the image's
	Kernel        string       `toml:"kernel"` // likewise
	Base          string       `toml:"base"`   // a base or an image of the catalog, whose recipe this one adds to
	Suite         string       `toml:"suite"`
	DownloadBytes int64        `toml:"download_bytes"`
	Packages      []string     `toml:"packages"`     // besides the required ones
	DpkgOptions   []string     `toml:"dpkg_options"` // for this and every later dpkg in the image
	NPM           []NPMPackage `toml:"npm"`
	Run           []string     `toml:"run"` // shell commands in the tree, after the packages
	Empty         []string     `toml:"empty"`
	Remove        []string     `toml:"remove"`
	Masked        []string     `toml:"masked"` // systemd units that can't start
	Files         []File       `toml:"file"`
	RealDirs      []string     `toml:"real_dirs"` // absolute, in the guest; kept on the disk instead of the overlay
}

// NPMPackage is a package of the npm registry that is unpacked into the image.
type NPMPackage struct {
	Arch      string            `toml:"arch"`
	Package   string            `toml:"package"`
	Version   string            `toml:"version"`   // exact
	Integrity string            `toml:"integrity"` // as in package-lock.json, "sha512-…"
	Install   map[string]string `toml:"install"`   // file in the package → executable in the image
	Directory string            `toml:"directory"` // in the image, for all of its other files; empty: they are left out
}

// File is written into an image.
type File struct {
	Path    string      `toml:"path"`
	Mode    fs.FileMode `toml:"mode"` // the bits that chmod(2) knows, set-user-id and such among them
	Content string      `toml:"content"`
}

// KernelRecipe is how a kernel is made of a distribution's package.
type KernelRecipe struct {
	Suite         string            `toml:"suite"`
	Package       map[string]string `toml:"package"` // by machine; brings the kernel in as a dependency, so that it stays current
	DownloadBytes int64             `toml:"download_bytes"`
}
