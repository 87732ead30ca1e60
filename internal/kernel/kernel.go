// Package kernel keeps the kernels that VMs boot. A kernel is an uncompressed
// ELF vmlinux, the modules that a boot needs before it has a root file system,
// and a read-only file system with all modules, to be mounted at /lib/modules.
// All three are made of a distribution's own signed package, unpacked from a
// bundle, or made of files of the user's.
package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"banger/internal/api"
)

// The files in a kernel's directory.
const (
	vmlinuxFile  = "vmlinux"
	modulesFile  = "modules.ext4"
	bootDir      = "boot"
	manifestFile = "manifest.json"
)

// Kernel is a kernel that is ready to boot. Paths are absolute.
type Kernel struct {
	Name         string
	Release      string // as uname -r says, and the name of its directory in /lib/modules
	Version      string // of the package; empty if it isn't of one
	Arch         string // as Debian and Go call it
	Origin       api.Origin
	Source       string // "catalog NAME", or the URL or file that it was made of
	Dir          string
	Vmlinux      string   // ELF, uncompressed
	ModulesImage string   // ext4; its root directory contains Release
	BootModules  []string // uncompressed .ko files to load at boot, in this order
	Created      time.Time
}

// manifest is manifest.json. In a bundle it has neither origin nor source.
type manifest struct {
	Name          string     `json:"name"`
	Release       string     `json:"release"`
	Arch          string     `json:"arch"` // as Debian and Go call it
	Origin        api.Origin `json:"origin,omitempty"`
	Source        string     `json:"source,omitempty"`
	Suite         string     `json:"suite,omitempty"`   // of a recipe
	Package       string     `json:"package,omitempty"` // of a recipe; brought the kernel in
	Version       string     `json:"version,omitempty"` // of the package that has the kernel
	VmlinuxBytes  int64      `json:"vmlinux_bytes"`
	VmlinuxSHA256 string     `json:"vmlinux_sha256"`
	ModulesBytes  int64      `json:"modules_bytes"`    // size of modules.ext4
	BootModules   []string   `json:"boot_modules"`     // files in boot/, in load order
	Created       time.Time  `json:"created,omitzero"` // not in bundles: two of one kernel are the same
}

// load reads a kernel's directory.
func load(dir string) (Kernel, error) {
	m, err := readManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Kernel{}, err
	}
	if err != nil {
		return Kernel{}, api.Errorf(api.CodeInternal, "kernel %s is damaged: %v", filepath.Base(dir), err).
			WithHint("delete %s; the kernel is made anew when needed", dir)
	}
	k := Kernel{
		Name:         m.Name,
		Release:      m.Release,
		Version:      m.Version,
		Arch:         m.Arch,
		Origin:       m.Origin,
		Source:       m.Source,
		Dir:          dir,
		Vmlinux:      filepath.Join(dir, vmlinuxFile),
		ModulesImage: filepath.Join(dir, modulesFile),
		Created:      m.Created,
	}
	if k.Origin == "" { // made by a banger that had nothing but recipes
		k.Origin, k.Source = api.OriginRecipe, catalogSource(m.Name)
	}
	for _, name := range m.BootModules {
		k.BootModules = append(k.BootModules, filepath.Join(dir, bootDir, name))
	}
	for _, path := range k.files() {
		if _, err := os.Stat(path); err != nil {
			return Kernel{}, fmt.Errorf("look for the files of kernel %s: %w", m.Name, err)
		}
	}
	return k, nil
}

// files are the kernel's files but its manifest.
func (k Kernel) files() []string {
	return append([]string{k.Vmlinux, k.ModulesImage}, k.BootModules...)
}

// readManifest reads the manifest of a kernel's directory.
func readManifest(dir string) (manifest, error) {
	var m manifest
	data, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return m, fmt.Errorf("read the kernel's manifest: %w", err)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("read the kernel's manifest: %w", err)
	}
	return m, nil
}

func writeManifest(dir string, m manifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, manifestFile), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the kernel's manifest: %w", err)
	}
	return nil
}
