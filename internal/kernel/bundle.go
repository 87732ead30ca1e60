package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/bundle"
)

// Export writes a kernel's bundle: its directory, with a manifest that says
// nothing of this host.
func (s *Store) Export(ctx context.Context, name string, req api.ExportImage, pf api.ProgressFunc) (api.Exported, error) {
	k, release, err := s.hold(ctx, name)
	if err != nil {
		return api.Exported{}, err
	}
	defer release()
	m, err := readManifest(k.Dir)
	if err != nil {
		return api.Exported{}, err
	}
	m.Origin, m.Source, m.Created = "", "", time.Time{}
	if err := os.MkdirAll(s.layout.Cache, 0o700); err != nil {
		return api.Exported{}, fmt.Errorf("export kernel %s: %w", name, err)
	}
	temp, err := os.MkdirTemp(s.layout.Cache, "export-")
	if err != nil {
		return api.Exported{}, fmt.Errorf("export kernel %s: %w", name, err)
	}
	defer os.RemoveAll(temp)
	if err := writeManifest(temp, m); err != nil {
		return api.Exported{}, err
	}
	files := []bundle.File{{Name: manifestFile, Path: filepath.Join(temp, manifestFile)}}
	for _, path := range k.files() {
		relative, err := filepath.Rel(k.Dir, path)
		if err != nil {
			return api.Exported{}, err
		}
		files = append(files, bundle.File{Name: filepath.ToSlash(relative), Path: path})
	}
	written, err := bundle.Create(ctx, req.Path, files, pf)
	if err != nil {
		return api.Exported{}, fmt.Errorf("export kernel %s: %w", name, err)
	}
	return written, nil
}

var (
	// bootModule is a file of boot/: its place in the order, and its name.
	bootModule = regexp.MustCompile(`^[0-9]{2,3}-[A-Za-z0-9][A-Za-z0-9_-]*\.ko$`)
	// plainText is what others may have shown to the user.
	plainText = regexp.MustCompile(`^[0-9A-Za-z.+~:_-]{0,100}$`)
)

// allowed tells which files a bundle may have besides the manifest.
func allowed(name string) bool {
	module, ok := strings.CutPrefix(name, bootDir+"/")
	return name == vmlinuxFile || name == modulesFile || ok && bootModule.MatchString(module)
}

// checkUnpacked reads the manifest of an unpacked bundle, which others have
// written, and checks it against the files beside it. What it returns has
// nothing that wasn't checked.
func checkUnpacked(dir, arch string) (manifest, error) {
	theirs, err := readManifest(dir)
	if err != nil {
		return manifest{}, err
	}
	switch {
	case theirs.Arch != arch:
		return manifest{}, fmt.Errorf("it is for %q machines, and this one is %s", theirs.Arch, arch)
	case !validRelease.MatchString(theirs.Release):
		return manifest{}, fmt.Errorf("its release is %q", theirs.Release)
	case !plainText.MatchString(theirs.Version):
		return manifest{}, fmt.Errorf("its version is %q", theirs.Version)
	}
	v, err := readVmlinux(filepath.Join(dir, vmlinuxFile))
	if err != nil {
		return manifest{}, err
	}
	if v.Release != theirs.Release || v.SHA256 != theirs.VmlinuxSHA256 {
		return manifest{}, fmt.Errorf("its kernel is %s with sha256 %s, but the manifest says %s and %s",
			v.Release, v.SHA256, theirs.Release, theirs.VmlinuxSHA256)
	}
	modules, err := checkFileSystem(filepath.Join(dir, modulesFile))
	if err != nil {
		return manifest{}, err
	}
	if err := checkBootModules(filepath.Join(dir, bootDir), theirs.BootModules); err != nil {
		return manifest{}, err
	}
	return manifest{
		Release: v.Release, Arch: arch, Version: theirs.Version,
		VmlinuxBytes: v.Bytes, VmlinuxSHA256: v.SHA256, ModulesBytes: modules,
		BootModules: theirs.BootModules, Created: time.Now().UTC(),
	}, nil
}

// checkBootModules makes sure that a manifest names just the files that are in
// a directory, in the order of their names, in which a guest loads them.
func checkBootModules(dir string, names []string) error {
	for _, name := range names {
		if !bootModule.MatchString(name) {
			return fmt.Errorf("%q can't be a module for the boot", name)
		}
	}
	entries, err := os.ReadDir(dir) // sorted
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var there []string
	for _, e := range entries {
		there = append(there, e.Name())
	}
	if !slices.Equal(there, names) {
		return fmt.Errorf("its modules for the boot are %q, but the manifest says %q", there, names)
	}
	return nil
}

// checkFileSystem makes sure that a file looks like ext4, and returns its size.
func checkFileSystem(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// struct ext4_super_block is at 1024 and has s_magic at 0x38.
	magic := make([]byte, 2)
	if _, err := f.ReadAt(magic, 1024+0x38); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if !hasPrefix(magic, 0x53, 0xef) {
		return 0, fmt.Errorf("its %s is no ext4 file system", filepath.Base(path))
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
