// Package kernel keeps the kernels that VMs boot. A kernel is an uncompressed
// ELF vmlinux, the modules that a boot needs before it has a root file system,
// and a read-only file system with all modules, to be mounted at /lib/modules.
// All three are made of a distribution's own signed package.
package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/depot"
	"banger/internal/paths"
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
	Version      string // of the package
	Dir          string
	Vmlinux      string   // ELF, uncompressed
	ModulesImage string   // ext4; its root directory contains Release
	BootModules  []string // uncompressed .ko files to load at boot, in this order
	Created      time.Time
}

// manifest is manifest.json.
type manifest struct {
	Name          string    `json:"name"`
	Release       string    `json:"release"`
	Arch          string    `json:"arch"` // as Debian and Go call it
	Suite         string    `json:"suite"`
	Package       string    `json:"package"`
	Version       string    `json:"version"`
	VmlinuxBytes  int64     `json:"vmlinux_bytes"`
	VmlinuxSHA256 string    `json:"vmlinux_sha256"`
	ModulesBytes  int64     `json:"modules_bytes"` // size of modules.ext4
	BootModules   []string  `json:"boot_modules"`  // files in boot/, in load order
	Created       time.Time `json:"created"`
}

// Store keeps the kernels of one user.
type Store struct {
	log   *slog.Logger
	depot *depot.Depot[Kernel]
}

// New returns the store of a layout.
func New(layout paths.Layout, log *slog.Logger) *Store {
	return &Store{log: log, depot: depot.New(layout.KernelsDir(), load, log)}
}

// Ensure returns a kernel of the catalog and makes it first if it isn't
// there, which takes the network and some seconds. Calls that overlap share
// the work. pf may be nil.
func (s *Store) Ensure(ctx context.Context, name string, pf api.ProgressFunc) (Kernel, error) {
	if k, err := s.Get(name); err == nil {
		return k, nil
	}
	r, ok := catalog()[name]
	if !ok {
		return Kernel{}, errUnknown(name)
	}
	k, err := s.depot.Ensure(ctx, name, pf, depot.Job{
		Phase: "kernel-build",
		Title: "building kernel " + name,
		Build: func(ctx context.Context, dir string, report depot.Report) error {
			return build(ctx, name, r, dir, report, s.log)
		},
	})
	if err != nil {
		return Kernel{}, fmt.Errorf("build kernel %s: %w", name, err)
	}
	return k, nil
}

// Get returns a kernel that is there. The error matches api.ErrNotFound if it
// isn't.
func (s *Store) Get(name string) (Kernel, error) {
	k, err := s.depot.Get(name)
	if errors.Is(err, fs.ErrNotExist) {
		if _, ok := catalog()[name]; !ok {
			return Kernel{}, errUnknown(name)
		}
		return Kernel{}, api.Errorf(api.CodeNotFound, "kernel %s is not on this host yet", name).
			WithHint("it is made when a VM first needs it")
	}
	return k, err
}

// List returns the kernels that are there, by name.
func (s *Store) List() ([]Kernel, error) { return s.depot.List() }

// Clean removes what the builds of a killed bangerd left. Call it at start-up,
// before any Ensure.
func (s *Store) Clean(ctx context.Context) error { return s.depot.Clean(ctx) }

func errUnknown(name string) error {
	return api.Errorf(api.CodeNotFound, "there is no kernel %q", name).
		WithHint("known kernels: %s", strings.Join(Names(), ", "))
}

// load reads a kernel's directory.
func load(dir string) (Kernel, error) {
	data, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return Kernel{}, fmt.Errorf("read the kernel's manifest: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return Kernel{}, api.Errorf(api.CodeInternal, "the manifest of kernel %s is damaged: %v", filepath.Base(dir), err).
			WithHint("delete %s; the kernel is made anew when needed", dir)
	}
	k := Kernel{
		Name:         m.Name,
		Release:      m.Release,
		Version:      m.Version,
		Dir:          dir,
		Vmlinux:      filepath.Join(dir, vmlinuxFile),
		ModulesImage: filepath.Join(dir, modulesFile),
		Created:      m.Created,
	}
	for _, name := range m.BootModules {
		k.BootModules = append(k.BootModules, filepath.Join(dir, bootDir, name))
	}
	for _, path := range append([]string{k.Vmlinux, k.ModulesImage}, k.BootModules...) {
		if _, err := os.Stat(path); err != nil {
			return Kernel{}, fmt.Errorf("look for the files of kernel %s: %w", m.Name, err)
		}
	}
	return k, nil
}
