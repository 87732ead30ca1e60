// Package image keeps the images that VMs start from: read-only root file
// systems that all their VMs share. They are built of a distribution's own
// packages (package recipe), unpacked from bundles, pulled from container
// registries (package oci), made of VMs, or files of the user's.
package image

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/naming"
)

// The files in an image's directory.
const (
	rootfsFile   = "rootfs.ext4"
	packagesFile = "packages.txt" // of images that were built of packages
	manifestFile = "manifest.json"
)

// Image is an image that is ready for use. Paths are absolute.
type Image struct {
	Name      string
	Distro    string // e.g. "debian bookworm"; may be empty
	Arch      string // as Debian and Go call it
	Kernel    string // name of the kernel that its VMs boot
	Origin    api.Origin
	Source    string // what it was made of, see api.Image
	Digest    string // sha256:…; may be empty
	Rootfs    string // ext4, read-only
	Dir       string
	RealDirs  []string         // directories that its VMs keep on the disk instead of the overlay
	Config    *api.ImageConfig // of a registry's image, else nil
	SizeBytes int64            // of Rootfs, holes included
	Created   time.Time
}

// manifest is manifest.json; docs/image-catalog.md describes it.
type manifest struct {
	Name      string           `json:"name"`
	Distro    string           `json:"distro,omitempty"`
	Arch      string           `json:"arch"`
	Kernel    string           `json:"kernel"`
	Origin    api.Origin       `json:"origin,omitempty"`
	Source    string           `json:"source,omitempty"`
	Digest    string           `json:"digest,omitempty"`
	Rootfs    string           `json:"rootfs,omitempty"` // absolute path of a registered file; else it is rootfs.ext4
	RealDirs  []string         `json:"real_dirs"`
	Config    *api.ImageConfig `json:"config,omitempty"`
	SizeBytes int64            `json:"size_bytes"`
	Created   time.Time        `json:"created,omitzero"` // not in bundles: two of one image are the same
}

// load reads an image's directory.
func load(dir string) (Image, error) {
	m, err := readManifest(dir)
	if err != nil {
		return Image{}, err
	}
	img := Image{
		Name:      m.Name,
		Distro:    m.Distro,
		Arch:      m.Arch,
		Kernel:    m.Kernel,
		Origin:    m.Origin,
		Source:    m.Source,
		Digest:    m.Digest,
		Rootfs:    filepath.Join(dir, rootfsFile),
		Dir:       dir,
		RealDirs:  m.RealDirs,
		Config:    m.Config,
		SizeBytes: m.SizeBytes,
		Created:   m.Created,
	}
	if m.Rootfs != "" {
		img.Rootfs = m.Rootfs // its loss is noticed when a VM needs it
		return img, nil
	}
	if _, err := os.Stat(img.Rootfs); err != nil {
		return Image{}, fmt.Errorf("look for the files of image %s: %w", m.Name, err)
	}
	return img, nil
}

func readManifest(dir string) (manifest, error) {
	data, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return manifest{}, fmt.Errorf("read the image's manifest: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return manifest{}, api.Errorf(api.CodeInternal, "the manifest of image %s is damaged: %v", filepath.Base(dir), err).
			WithHint("delete %s; the image is made anew when needed, but VMs that were made from it are lost", dir)
	}
	if m.Origin == "" {
		m.Origin = api.OriginRecipe // the only one that early versions had
	}
	return m, nil
}

// write completes an image's directory: it measures the file system and writes
// the manifest.
func (m manifest) write(dir string) error {
	m.Created = time.Now().UTC()
	return m.writeFor(dir, cmp.Or(m.Rootfs, filepath.Join(dir, rootfsFile)))
}

// writeFor is write for a file system that is elsewhere.
func (m manifest) writeFor(dir, rootfs string) error {
	info, err := os.Stat(rootfs)
	if err != nil {
		return fmt.Errorf("look at the image's file system: %w", err)
	}
	m.SizeBytes = info.Size()
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, manifestFile), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the image's manifest: %w", err)
	}
	return nil
}

// check judges a manifest that comes from elsewhere.
func (m manifest) check(arch string) error {
	switch {
	case m.Arch != arch:
		return fmt.Errorf("it is for %s machines, this one is %s", m.Arch, arch)
	case m.Kernel == "":
		return fmt.Errorf("its manifest names no kernel")
	case !naming.IsStored(m.Kernel):
		return fmt.Errorf("%.100q can't be the name of a kernel", m.Kernel)
	}
	return checkRealDirs(m.RealDirs)
}

// Bounds of the directories on a VM's disk: each is a mount in the guest, and is
// sent to it at every start.
const (
	maxRealDirs = 256
	maxRealDir  = 4095 // bytes of a path: Linux's PATH_MAX less the final zero
)

// checkRealDirs wants absolute, clean paths below the root, and not too many.
func checkRealDirs(dirs []string) error {
	if len(dirs) > maxRealDirs {
		return fmt.Errorf("%d directories are to be on a VM's disk; %d are allowed", len(dirs), maxRealDirs)
	}
	for _, dir := range dirs {
		if dir == "/" || !path.IsAbs(dir) || path.Clean(dir) != dir || len(dir) > maxRealDir || strings.Contains(dir, "\x00") {
			return fmt.Errorf("%.100q can't be a directory on a VM's disk", dir)
		}
	}
	return nil
}

// defaultRealDirs are directories for which an overlay won't do: container
// engines stack overlays of their own there, and people's files are many,
// big, and often written to.
func defaultRealDirs() []string {
	return []string{"/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/root", "/home"}
}

// withVolumes adds the directories that an image's publisher calls volumes:
// programs expect a file system of their own there.
func withVolumes(volumes []string) ([]string, error) {
	dirs := defaultRealDirs()
	if len(volumes) > maxRealDirs { // before each is compared with each
		return nil, api.Errorf(api.CodeInvalid, "the image has %d volumes; %d are allowed", len(volumes), maxRealDirs)
	}
	for _, v := range volumes {
		v = path.Clean("/" + v)
		below := slices.ContainsFunc(dirs, func(dir string) bool { return v == dir || strings.HasPrefix(v, dir+"/") })
		if v != "/" && !below {
			dirs = append(dirs, v)
		}
	}
	if err := checkRealDirs(dirs); err != nil {
		return nil, api.Errorf(api.CodeInvalid, "the image's volumes can't be used: %v", err)
	}
	return dirs, nil
}
