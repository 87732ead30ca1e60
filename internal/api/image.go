package api

import "time"

// Origin says how an image or a kernel came to this host.
type Origin string

// The origins of images and kernels.
const (
	OriginRecipe     Origin = "recipe"     // built here of a distribution's packages
	OriginBundle     Origin = "bundle"     // unpacked from a bundle
	OriginOCI        Origin = "oci"        // pulled from a container registry
	OriginArchive    Origin = "archive"    // made of an archive of docker save, podman save or an OCI layout
	OriginDockerfile Origin = "dockerfile" // built by Docker in a VM
	OriginCommit     Origin = "commit"     // made of a VM
	OriginRegistered Origin = "registered" // a file of the user's, used in place
	OriginImported   Origin = "imported"   // copied from files of the user's
)

// Image describes a root file system that VMs can start from.
type Image struct {
	Name      string       `json:"name"`
	Distro    string       `json:"distro,omitempty"` // e.g. "debian bookworm"
	Arch      string       `json:"arch"`             // as Debian and Go call it
	Kernel    string       `json:"kernel"`           // name of the kernel that its VMs boot
	Origin    Origin       `json:"origin"`
	Source    string       `json:"source,omitempty"` // recipe, URL, registry reference, VM or file that it was made of
	Digest    string       `json:"digest,omitempty"` // sha256:…, of the registry's manifest or of the bundle
	Rootfs    string       `json:"rootfs"`           // the file, ext4
	SizeBytes int64        `json:"size_bytes"`       // of the file, holes included
	DiskBytes int64        `json:"disk_bytes"`       // that it takes on the host's disk
	RealDirs  []string     `json:"real_dirs,omitempty"`
	Config    *ImageConfig `json:"config,omitempty"`
	UsedBy    []string     `json:"used_by"` // names of VMs
	Created   time.Time    `json:"created"`
	Damaged   string       `json:"damaged,omitempty"` // why it can't be used; little else is known then
}

// ImageConfig is how an image's publisher wants programs in it to run, as in
// https://github.com/opencontainers/image-spec/blob/main/config.md.
type ImageConfig struct {
	Env        []string `json:"env,omitempty"` // NAME=value; in every session of its VMs
	WorkingDir string   `json:"working_dir,omitempty"`
	User       string   `json:"user,omitempty"` // user, uid, user:group or uid:gid
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
}

// Kernel describes a kernel that VMs can boot.
type Kernel struct {
	Name      string    `json:"name"`
	Release   string    `json:"release"`           // as uname -r says
	Version   string    `json:"version,omitempty"` // of the distribution's package
	Arch      string    `json:"arch"`
	Origin    Origin    `json:"origin"`
	Source    string    `json:"source,omitempty"`
	DiskBytes int64     `json:"disk_bytes"`
	UsedBy    []string  `json:"used_by"` // "image NAME" and "vm NAME"
	Created   time.Time `json:"created"`
	Damaged   string    `json:"damaged,omitempty"` // why it can't be used; little else is known then
}

// CatalogEntry is an image or a kernel that could be had.
type CatalogEntry struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Distro      string   `json:"distro,omitempty"` // of an image
	Arch        []string `json:"arch"`             // machines that it exists for
	Kernel      string   `json:"kernel,omitempty"` // of an image
	// DownloadBytes and DiskBytes are about what getting it fetches and what it
	// then takes, for this machine.
	DownloadBytes int64  `json:"download_bytes"`
	DiskBytes     int64  `json:"disk_bytes"`
	Origin        Origin `json:"origin"` // how a pull gets it: bundle or recipe
	Here          bool   `json:"here"`   // on this host already
	Default       bool   `json:"default,omitempty"`
}

// PullImage asks for an image of the catalog, of a container registry, in a
// bundle or in an archive. One that is there is fetched anew and replaced.
type PullImage struct {
	// Ref is a name in the catalog, a reference to a registry's image such as
	// docker.io/library/alpine:3.20, the URL of a bundle, or the absolute path
	// of one, of an archive of docker save or podman save, or of an OCI layout.
	Ref      string `json:"ref"`
	Name     string `json:"name,omitempty"`     // of the image on this host; if empty, that in the bundle or archive, or derived from Ref
	Kernel   string `json:"kernel,omitempty"`   // to boot it with; default: the source's, or the default kernel
	Platform string `json:"platform,omitempty"` // of a registry's or an archive's image, e.g. "linux/amd64"
	SHA256   string `json:"sha256,omitempty"`   // that a bundle must have, in hex
}

// RegisterImage asks to use a root file system in place.
type RegisterImage struct {
	Name   string `json:"name"`
	Rootfs string `json:"rootfs"` // absolute path of an ext4 file; never written
	Kernel string `json:"kernel,omitempty"`
}

// BuildImage asks to build an image of a recipe or a Dockerfile.
type BuildImage struct {
	File    string            `json:"file"`              // absolute path; a recipe's name ends in .toml
	Context string            `json:"context,omitempty"` // of a Dockerfile: absolute directory; default: File's
	Name    string            `json:"name,omitempty"`    // default: derived from File
	Kernel  string            `json:"kernel,omitempty"`
	Args    map[string]string `json:"args,omitempty"`   // of a Dockerfile: build arguments
	Target  string            `json:"target,omitempty"` // of a Dockerfile: the stage to build
}

// CommitImage asks to make an image of a VM.
type CommitImage struct {
	VM   string `json:"vm"` // name or id
	Name string `json:"name"`
}

// ExportImage asks to write an image's bundle.
type ExportImage struct {
	Path string `json:"path"` // absolute, of the file to write
}

// Exported describes a bundle that was written.
type Exported struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"` // in hex
	Bytes  int64  `json:"bytes"`
}

// PullKernel asks for a kernel of the catalog or in a bundle, like PullImage.
type PullKernel struct {
	Ref    string `json:"ref"`
	Name   string `json:"name,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// ImportKernel asks for a copy of the user's own kernel.
type ImportKernel struct {
	Name    string `json:"name"`
	Image   string `json:"image"`   // absolute path: an ELF vmlinux or a vmlinuz
	Modules string `json:"modules"` // absolute path of its directory, as in /lib/modules/RELEASE
}

// Prune says what a prune is to remove.
type Prune struct {
	DryRun bool `json:"dry_run,omitempty"` // only tell
}

// Pruned lists what a prune removed, or would have.
type Pruned struct {
	Removed []PrunedItem `json:"removed"`
	Bytes   int64        `json:"bytes"` // on the host's disk
}

// PrunedItem is one thing that a prune removed.
type PrunedItem struct {
	Kind  string `json:"kind"` // as in UsageItem
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Usage is what banger takes on the host's disk. Bytes are those of allocated
// blocks: holes of sparse files take none.
type Usage struct {
	Items       []UsageItem `json:"items"`
	Bytes       int64       `json:"bytes"` // all together
	Reclaimable int64       `json:"reclaimable"`
}

// UsageItem is one image, kernel, VM or cache.
type UsageItem struct {
	Kind        string   `json:"kind"` // image, kernel, vm or cache
	Name        string   `json:"name"`
	Exclusive   int64    `json:"exclusive"`   // bytes that only it uses: what deleting it would free
	Shared      int64    `json:"shared"`      // bytes that others use as well: of a VM its image and kernel; of an image or kernel its own, if others use it
	Reclaimable int64    `json:"reclaimable"` // bytes that a prune would free
	UsedBy      []string `json:"used_by,omitempty"`
}
