package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"banger/internal/depot"
	"banger/internal/hosttool"
	"banger/internal/mkext4"
	"banger/internal/mmdebstrap"
)

// build makes a kernel in the empty directory dir:
//
//  1. unpack the kernel's package and those that it needs into a tree;
//  2. take the ELF kernel out of the package's vmlinuz;
//  3. uncompress the modules;
//  4. copy those that a boot needs, in load order;
//  5. index all modules with the tree's own depmod;
//  6. make a file system of the modules;
//  7. write the manifest.
func build(ctx context.Context, name string, r recipe, dir string, report depot.Report, log *slog.Logger) error {
	// Better now than after the download.
	if _, err := mkext4.Tool().Find(); err != nil {
		return err
	}
	work := filepath.Join(dir, "work")
	tree := filepath.Join(work, "tree")
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	packages, err := mmdebstrap.Run(ctx, mmdebstrap.Tree{
		Variant:  mmdebstrap.Extract,
		Suite:    r.Suite,
		Packages: []string{r.Package, "kmod"},
	}, tree, work, func(s mmdebstrap.Step) { report(s.Detail, s.Percent*70/100) }, log)
	if err != nil {
		return err
	}

	report("unpacking the kernel", 70)
	m := manifest{Name: name, Arch: r.Arch, Suite: r.Suite, Package: r.Package, Created: time.Now().UTC()}
	if err := addVmlinux(tree, dir, &m); err != nil {
		return err
	}
	m.Version = packageVersion(packages, "linux-image-"+m.Release)

	report("unpacking modules", 75)
	modules := filepath.Join(tree, "usr/lib/modules")
	if err := unpackModules(ctx, filepath.Join(modules, m.Release)); err != nil {
		return err
	}
	if err := addBootModules(filepath.Join(modules, m.Release), dir, r.Modules, &m); err != nil {
		return err
	}

	report("indexing modules", 85)
	if err := depmod(ctx, tree, m.Release, log); err != nil {
		return err
	}
	report("making the file system of modules", 90)
	image := filepath.Join(dir, modulesFile)
	if err := mkext4.Make(ctx, modules, image, "banger-modules", log); err != nil {
		return err
	}
	if info, err := os.Stat(image); err == nil {
		m.ModulesBytes = info.Size()
	}
	if err := os.RemoveAll(work); err != nil {
		return fmt.Errorf("remove the unpacked packages: %w", err)
	}
	return writeManifest(dir, m)
}

// addVmlinux writes the ELF kernel of the tree into dir and what it is into m.
func addVmlinux(tree, dir string, m *manifest) error {
	found, err := filepath.Glob(filepath.Join(tree, "boot", "vmlinuz-*"))
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("package %s brings %d kernels instead of one", m.Package, len(found))
	}
	image, err := os.ReadFile(found[0])
	if err != nil {
		return err
	}
	boot, err := parseBootImage(image)
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(found[0]), err)
	}
	hash := sha256.New()
	path := filepath.Join(dir, vmlinuxFile)
	if err := writeFile(path, func(w io.Writer) error { return boot.writeVmlinux(io.MultiWriter(w, hash)) }); err != nil {
		return err
	}
	if err := checkVmlinux(path); err != nil {
		return err
	}
	m.Release = boot.release()
	m.VmlinuxBytes = boot.size()
	m.VmlinuxSHA256 = hex.EncodeToString(hash.Sum(nil))
	return nil
}

// addBootModules copies the modules that a boot needs to dir/boot/NN-name.ko.
func addBootModules(modules, dir string, wanted []wantedModule, m *manifest) error {
	tree, err := scanModules(modules)
	if err != nil {
		return err
	}
	order, err := tree.loadOrder(wanted)
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, bootDir), 0o700); err != nil {
		return err
	}
	for i, file := range order {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%02d-%s", i, filepath.Base(file))
		if err := os.WriteFile(filepath.Join(dir, bootDir, name), data, 0o644); err != nil {
			return err
		}
		m.BootModules = append(m.BootModules, name)
	}
	return nil
}

// depmod writes modules.dep and its siblings. It runs the depmod of the
// kernel's own distribution, so that the host needs none.
func depmod(ctx context.Context, tree, release string, log *slog.Logger) error {
	// What installing base-files would have done.
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		if _, err := os.Stat(filepath.Join(tree, "usr", name)); err != nil {
			continue
		}
		if err := os.Symlink("usr/"+name, filepath.Join(tree, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	err := hosttool.Run(ctx, hosttool.Command{
		Tool: hosttool.Tool{Name: "depmod", Package: "kmod"},
		Path: "/usr/sbin/depmod",
		Args: []string{"-a", release},
		Root: tree,
		Dir:  "/",
		Log:  log,
	})
	if err != nil {
		return fmt.Errorf("index the modules: %w", err)
	}
	return nil
}

// packageVersion returns the version of a downloaded package; "" if it isn't
// among them.
func packageVersion(packages []mmdebstrap.Package, name string) string {
	for _, p := range packages {
		if p.Name == name {
			return p.Version
		}
	}
	return ""
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
