package image

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
)

// customise changes an installed tree as the recipe says. Symbolic links in
// the tree can't lead out of it.
func customise(tree string, r recipe) error {
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
	for _, f := range r.Files {
		if err := root.MkdirAll(path.Dir(f.Path), 0o755); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
		if err := root.WriteFile(f.Path, []byte(f.Content), f.Mode); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
		// The file may have been there, and a umask may have applied.
		if err := root.Chmod(f.Path, f.Mode); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
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

// listPackages writes "name version architecture" of every installed package
// of the tree into a file, sorted.
func listPackages(tree, target string) error {
	f, err := os.Open(filepath.Join(tree, "var/lib/dpkg/status"))
	if err != nil {
		return fmt.Errorf("read dpkg's list of packages: %w", err)
	}
	defer f.Close()
	var lines []string
	var name, version, arch string
	installed := false
	end := func() {
		if installed && name != "" {
			lines = append(lines, fmt.Sprintf("%s %s %s\n", name, version, arch))
		}
		name, version, arch, installed = "", "", "", false
	}
	// Paragraphs of "Field: value" lines, deb-control(5); continued values
	// begin with a space.
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if scanner.Text() == "" {
			end()
			continue
		}
		field, value, _ := strings.Cut(scanner.Text(), ": ")
		switch field {
		case "Package":
			name = value
		case "Version":
			version = value
		case "Architecture":
			arch = value
		case "Status":
			installed = strings.HasSuffix(value, " installed")
		}
	}
	end()
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("read dpkg's list of packages: %w", err)
	}
	sort.Strings(lines)
	if err := os.WriteFile(target, []byte(strings.Join(lines, "")), 0o644); err != nil {
		return fmt.Errorf("write the list of packages: %w", err)
	}
	return nil
}
