package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// bindDirs is bindRealDirs for the given directories and bindEmptyDirs.
func bindDirs(root *rootDir, dirs []string) ([]string, error) {
	bound, err := bindRealDirs(root, dirs)
	if err != nil {
		return nil, err
	}
	empty, err := bindEmptyDirs(root, bound)
	return append(bound, empty...), err
}

// bindRealDirs gives directories of the root a real filesystem below: that of
// the disk, seeded with what the root has there. It returns where they really
// are in the root.
func bindRealDirs(root *rootDir, dirs []string) ([]string, error) {
	bound := make([]string, 0, len(dirs))
	for _, dir := range dirs {
		resolved, err := bindRealDir(root, dir)
		if err != nil {
			return nil, fmt.Errorf("put %s on the disk: %w", dir, err)
		}
		bound = append(bound, resolved)
	}
	return bound, nil
}

func bindRealDir(root *rootDir, dir string) (string, error) {
	mode := fs.FileMode(0o755)
	if dir == "/root" {
		mode = 0o700
	}
	target, err := root.mkdirAll(dir, mode)
	if err != nil {
		return "", err
	}
	defer target.Close()
	resolved, err := root.resolve(dir)
	if err != nil {
		return "", err
	}
	source := filepath.Join(diskMount, diskReal, mountName(resolved))
	if err := seed(seedSource(resolved, imageMount, filepath.Join(diskMount, diskUpper), newRoot), source); err != nil {
		return "", err
	}
	if err := unix.Mount(source, fdPath(target), "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("bind mount: %w", err)
	}
	return resolved, nil
}

// seedSource returns where the content of a root's directory is copied from:
// the image itself as long as nothing was written over it. Seen through an
// overlay, a directory loses the marks that overlays in it need (Docker's
// layers), for the overlay takes them for its own.
func seedSource(dir, image, upper, merged string) string {
	info, err := os.Lstat(filepath.Join(image, dir))
	_, upperErr := os.Lstat(filepath.Join(upper, dir))
	if err == nil && info.IsDir() && errors.Is(upperErr, fs.ErrNotExist) {
		return filepath.Join(image, dir)
	}
	return filepath.Join(merged, dir)
}

// emptyRealDirs are directories for which an overlay won't do, as engines stack
// overlays of their own there: builds in temporary directories, what users put
// into /opt and /srv, and the data of tools that run containers and VMs. They
// are on the disk as long as the image has nothing there, for a start isn't to
// wait for a copy.
var emptyRealDirs = []string{
	"/tmp", "/var/tmp", "/opt", "/srv",
	"/var/lib/buildkit", "/var/lib/incus", "/var/lib/k0s", "/var/lib/kubelet", "/var/lib/libvirt",
	"/var/lib/lxc", "/var/lib/lxd", "/var/lib/machines", "/var/lib/rancher", "/var/lib/schroot",
}

// bindEmptyDirs is bindRealDirs for those of emptyRealDirs that are empty or were
// when they were bound first. It costs no copy.
func bindEmptyDirs(root *rootDir, already []string) ([]string, error) {
	var bound []string
	for _, dir := range emptyRealDirs {
		resolved, err := bindEmptyDir(root, dir, slices.Concat(already, bound))
		if err != nil {
			return nil, fmt.Errorf("put %s on the disk: %w", dir, err)
		}
		if resolved != "" {
			bound = append(bound, resolved)
		}
	}
	return bound, nil
}

// bindEmptyDir returns "" if it has left the directory as it is.
func bindEmptyDir(root *rootDir, dir string, already []string) (string, error) {
	existed := root.exists(dir)
	target, err := root.mkdirAll(dir, 0o755)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return "", nil // something else of that name, say a symlink that leads nowhere
	}
	if err != nil {
		return "", err
	}
	defer target.Close()
	if !existed && (dir == "/tmp" || dir == "/var/tmp") {
		if err := unix.Chmod(fdPath(target), unix.S_ISVTX|0o777); err != nil {
			return "", err
		}
	}
	resolved, err := root.resolve(dir)
	if err != nil || slices.Contains(already, resolved) {
		return "", err
	}
	source := filepath.Join(diskMount, diskReal, mountName(resolved))
	if _, err := os.Lstat(source); errors.Is(err, fs.ErrNotExist) {
		if empty, err := isEmpty(fdPath(target)); err != nil || !empty {
			return "", err
		}
		if err := seedEmpty(fdPath(target)+"/.", source); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	if err := unix.Mount(source, fdPath(target), "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("bind mount: %w", err)
	}
	return resolved, nil
}

func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return len(names) == 0, err
}
