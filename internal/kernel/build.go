package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/depot"
	"banger/internal/hosttool"
	"banger/internal/mmdebstrap"
)

// build makes a kernel of a recipe in the empty directory dir:
//
//  1. unpack the kernel's package and those that it needs into a tree;
//  2. take the ELF kernel out of the package's vmlinuz;
//  3. uncompress the modules;
//  4. copy those that a boot needs, in load order;
//  5. index all modules with the tree's own depmod;
//  6. make a file system of the modules;
//  7. write the manifest, of which m has name, machine and source already.
func build(ctx context.Context, m manifest, r catalog.KernelRecipe, dir string, report depot.Report, log *slog.Logger) error {
	work := filepath.Join(dir, "work")
	tree := filepath.Join(work, "tree")
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	pkg := r.Package[m.Arch]
	packages, err := mmdebstrap.Run(ctx, mmdebstrap.Tree{
		Variant:  mmdebstrap.Extract,
		Suite:    r.Suite,
		Packages: []string{pkg, "kmod"},
	}, tree, work, func(s mmdebstrap.Step) { report(s.Detail, s.Percent*70/100) }, log)
	if err != nil {
		return err
	}

	report("unpacking the kernel", 70)
	m.Origin, m.Suite, m.Package, m.Created = api.OriginRecipe, r.Suite, pkg, time.Now().UTC()
	boot, err := filepath.Glob(filepath.Join(tree, "boot", "vmlinuz-*"))
	if err != nil {
		return err
	}
	if len(boot) != 1 {
		return fmt.Errorf("package %s brings %d kernels instead of one", pkg, len(boot))
	}
	if err := addVmlinux(boot[0], dir, &m); err != nil {
		return err
	}
	m.Version = packageVersion(packages, "linux-image-"+m.Release)

	modules, err := inTree(tree, "lib/modules")
	if err != nil {
		return err
	}
	report("unpacking modules", 75)
	if _, err := unpackModules(ctx, modules); err != nil {
		return err
	}
	report("indexing modules", 85)
	if err := depmodInTree(ctx, tree, m.Release, log); err != nil {
		return err
	}
	if err := addModules(ctx, modules, dir, &m, report); err != nil {
		return err
	}
	if err := os.RemoveAll(work); err != nil {
		return fmt.Errorf("remove the unpacked packages: %w", err)
	}
	return writeManifest(dir, m)
}

// addModules makes the boot modules and the file system of the modules. modules
// is a directory like /lib/modules that holds the kernel's release only, with
// its modules uncompressed and indexed.
func addModules(ctx context.Context, modules, dir string, m *manifest, report depot.Report) error {
	if err := addBootModules(filepath.Join(modules, m.Release), dir, bootModules(), m); err != nil {
		return err
	}
	report("making the file system of modules", 90)
	return addModulesImage(ctx, modules, dir, m)
}

// addModulesImage makes the file system of the modules.
func addModulesImage(ctx context.Context, modules, dir string, m *manifest) error {
	image := filepath.Join(dir, modulesFile)
	if err := writeModules(ctx, modules, image); err != nil {
		return err
	}
	info, err := os.Stat(image)
	if err != nil {
		return err
	}
	m.ModulesBytes = info.Size()
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
		name := fmt.Sprintf("%02d-%s", i, filepath.Base(file))
		if err := copyFile(file, filepath.Join(dir, bootDir, name)); err != nil {
			return err
		}
		m.BootModules = append(m.BootModules, name)
	}
	return nil
}

// inTree returns where a path below / is in a tree of unpacked packages.
// Distributions differ in whether their packages have it below /usr.
func inTree(tree, path string) (string, error) {
	for _, candidate := range []string{filepath.Join(tree, "usr", path), filepath.Join(tree, path)} {
		// Links may be absolute, and then mean something else out here.
		if _, err := os.Lstat(candidate); err == nil {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("the packages bring no /%s", path)
}

// depmodInTree writes modules.dep and its siblings. It runs the depmod of the
// kernel's own distribution, so that the host needs none.
func depmodInTree(ctx context.Context, tree, release string, log *slog.Logger) error {
	// What installing base-files would have done, where it does.
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		if _, err := os.Stat(filepath.Join(tree, "usr", name)); err != nil {
			continue
		}
		if err := os.Symlink("usr/"+name, filepath.Join(tree, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	path, err := inTree(tree, "sbin/depmod")
	if err != nil {
		return err
	}
	inside, err := filepath.Rel(tree, path)
	if err != nil {
		return err
	}
	err = hosttool.Run(ctx, hosttool.Command{
		Tool: depmodTool(),
		Path: "/" + inside,
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

func depmodTool() hosttool.Tool { return hosttool.Tool{Name: "depmod", Package: "kmod"} }

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
