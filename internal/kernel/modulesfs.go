package kernel

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"banger/internal/image/ext4"
)

// modulesLabel is the volume's name of every file system of modules.
const modulesLabel = "banger-modules"

// writeModules makes the file system of what is below a directory like
// /lib/modules. All is root's, and nothing is younger than the youngest module:
// the same packages give the same file system.
func writeModules(ctx context.Context, modules, dst string) error {
	epoch, err := youngest(modules)
	if err != nil {
		return err
	}
	fill := func(w *ext4.Writer) error {
		buf := make([]byte, 256<<10)
		return filepath.WalkDir(modules, func(path string, d fs.DirEntry, err error) error {
			if err := errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			return addToModules(w, modules, path, d, epoch, buf)
		})
	}
	if err := ext4.Create(ctx, dst, fill, ext4.Options{Label: modulesLabel, Time: epoch}); err != nil {
		return fmt.Errorf("make the file system of modules: %w", err)
	}
	return nil
}

// addToModules writes a directory or a regular file; there is nothing else.
func addToModules(w *ext4.Writer, root, path string, d fs.DirEntry, epoch time.Time, buf []byte) error {
	name, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	modified := info.ModTime().Truncate(time.Second)
	if modified.After(epoch) {
		modified = epoch
	}
	if d.IsDir() {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: epoch})
	}
	if !d.Type().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o644, ModTime: modified}); err != nil {
		return err
	}
	// Without WriteTo, which would make a buffer for every file.
	if _, err := io.CopyBuffer(w, struct{ io.Reader }{f}, buf); err != nil {
		return fmt.Errorf("copy %s: %w", name, err)
	}
	return nil
}

// youngest returns the latest time of a module below dir.
func youngest(dir string) (time.Time, error) {
	latest := time.Unix(0, 0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(path, ".ko") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if t := info.ModTime().Truncate(time.Second); t.After(latest) {
			latest = t
		}
		return nil
	})
	return latest, err
}
