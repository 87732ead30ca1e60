package image

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"banger/internal/depot"
	"banger/internal/mkext4"
	"banger/internal/mmdebstrap"
)

// build makes an image in the empty directory dir:
//
//  1. install the recipe's packages into a tree;
//  2. change the tree as the recipe says;
//  3. note its packages;
//  4. make a file system of it;
//  5. write the manifest.
func build(ctx context.Context, name string, r recipe, dir string, report depot.Report, log *slog.Logger) error {
	// Better now than after minutes of downloads.
	if _, err := mkext4.Tool().Find(); err != nil {
		return err
	}
	work := filepath.Join(dir, "work")
	tree := filepath.Join(work, "tree")
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	_, err := mmdebstrap.Run(ctx, mmdebstrap.Tree{
		Variant:     mmdebstrap.MinBase,
		Suite:       r.Suite,
		Packages:    r.Packages,
		DpkgOptions: r.DpkgOptions,
		Hooks:       r.Hooks,
	}, tree, work, func(s mmdebstrap.Step) { report(s.Detail, s.Percent*85/100) }, log)
	if err != nil {
		return err
	}

	report("configuring", 86)
	if err := customise(tree, r); err != nil {
		return fmt.Errorf("configure the image: %w", err)
	}
	if err := listPackages(tree, filepath.Join(dir, packagesFile)); err != nil {
		return err
	}
	report("making the file system", 88)
	rootfs := filepath.Join(dir, rootfsFile)
	if err := mkext4.Make(ctx, tree, rootfs, "banger-root", log); err != nil {
		return err
	}
	info, err := os.Stat(rootfs)
	if err != nil {
		return err
	}
	report("removing the unpacked packages", 97)
	if err := os.RemoveAll(work); err != nil {
		return fmt.Errorf("remove the unpacked packages: %w", err)
	}
	return writeManifest(dir, manifest{
		Name:      name,
		Distro:    r.Distro,
		Arch:      r.Arch,
		Kernel:    r.Kernel,
		RealDirs:  r.RealDirs,
		SizeBytes: info.Size(),
		Created:   time.Now().UTC(),
	})
}

func writeManifest(dir string, m manifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, manifestFile), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the image's manifest: %w", err)
	}
	return nil
}
