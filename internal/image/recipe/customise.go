package recipe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"banger/internal/catalog"
)

// customise takes out of an installed tree what the recipe says, masks units
// and makes mount points. Symbolic links in the tree can't lead out of it.
func customise(tree string, r catalog.ImageRecipe) error {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, dir := range r.Empty {
		if err := emptyDir(root, dir); err != nil {
			return fmt.Errorf("empty %s: %w", dir, err)
		}
	}
	for _, name := range r.Remove {
		if err := root.RemoveAll(name); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	for _, unit := range r.Masked {
		link := path.Join("etc/systemd/system", unit)
		if err := root.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("mask %s: %w", unit, err)
		}
		if err := root.Symlink("/dev/null", link); err != nil {
			return fmt.Errorf("mask %s: %w", unit, err)
		}
	}
	for _, dir := range r.RealDirs {
		// A mount point that is missing in a read-only image would have to be
		// made at every boot.
		if err := root.MkdirAll(strings.TrimPrefix(dir, "/"), 0o755); err != nil {
			return fmt.Errorf("create %s: %w", dir, err)
		}
	}
	return nil
}

// emptyDir removes what is in a directory, if there is one.
func emptyDir(root *os.Root, dir string) error {
	entries, err := fs.ReadDir(root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := root.RemoveAll(path.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
