// Package recipe makes images of a distribution's packages: it installs them
// into a tree, changes that as a recipe of the catalog says, and makes a file
// system of it. The same packages always give the same file system.
package recipe

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/depot"
	"banger/internal/mmdebstrap"
)

// The files that Build makes.
const (
	RootfsFile   = "rootfs.ext4"
	PackagesFile = "packages.txt" // "name version architecture" of every package, sorted
)

// label is the name of the file systems.
const label = "banger-root"

// Build makes RootfsFile and PackagesFile in the empty directory dir:
//
//  1. fetch what isn't of the distribution;
//  2. install the recipe's packages into a tree, write its files there, and
//     run its commands;
//  3. take out what doesn't belong into an image;
//  4. note the packages;
//  5. undo what depends on the time of the build;
//  6. make a file system of the tree.
//
// The caller is root, be it in a user namespace only. If Build fails, what it
// leaves in dir is for the caller to remove.
func Build(ctx context.Context, r catalog.ImageRecipe, arch, dir string, report depot.Report, log *slog.Logger) error {
	// Commands of the recipe, and the packages' own, run here.
	if arch != runtime.GOARCH {
		return api.Errorf(api.CodeInvalid, "an image for %s can't be built on a host of %s", arch, runtime.GOARCH)
	}
	started := time.Now() // before anything is made
	work := filepath.Join(dir, "work")
	tree := filepath.Join(work, "tree")
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	additions, err := fetch(ctx, r, arch, work, report, log)
	if err != nil {
		return err
	}
	_, err = mmdebstrap.Run(ctx, mmdebstrap.Tree{
		Variant:     mmdebstrap.MinBase,
		Suite:       r.Suite,
		Packages:    r.Packages,
		DpkgOptions: r.DpkgOptions,
		Archives:    []string{additions},
		Commands:    r.Run,
	}, tree, work, func(s mmdebstrap.Step) { report(s.Detail, fetched+s.Percent*(installed-fetched)/100) }, log)
	if err != nil {
		return err
	}

	report("configuring", installed)
	if err := customise(tree, r); err != nil {
		return fmt.Errorf("configure the image: %w", err)
	}
	if err := listPackages(tree, filepath.Join(dir, PackagesFile)); err != nil {
		return err
	}
	epoch, err := newest(tree, started)
	if err != nil {
		return fmt.Errorf("find the image's date: %w", err)
	}
	if err := settleShadow(tree, epoch); err != nil {
		return fmt.Errorf("reset the dates of passwords: %w", err)
	}
	report("making the file system", configured)
	if err := writeExt4(ctx, tree, filepath.Join(dir, RootfsFile), epoch); err != nil {
		return err
	}
	report("removing the unpacked packages", written)
	if err := os.RemoveAll(work); err != nil {
		return fmt.Errorf("remove the unpacked packages: %w", err)
	}
	return nil
}

// What is done of a build after each part, in percent; shares are of the time
// that the parts took when measured.
const (
	fetched    = 3
	installed  = 86
	configured = 88
	written    = 97
)

// fetch writes what the recipe adds to the packages into an archive, and
// returns its path.
func fetch(ctx context.Context, r catalog.ImageRecipe, arch, work string, report depot.Report, log *slog.Logger) (string, error) {
	path := filepath.Join(work, "additions.tar")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	add := newArchive(f)
	for _, p := range r.NPM {
		if p.Arch != arch {
			continue
		}
		report("fetching "+p.Package, 0)
		if err := addNPM(ctx, p, work, add, log); err != nil {
			return "", err
		}
	}
	for _, file := range r.Files {
		if err := add.file(file.Path, file.Mode, []byte(file.Content)); err != nil {
			return "", err
		}
	}
	if err := add.close(); err != nil {
		return "", err
	}
	return path, f.Close()
}
