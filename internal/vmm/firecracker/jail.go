package firecracker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/vmm"
)

// jail is the root directory of a jailed Firecracker, and who it runs as. The
// VM's files are in it only while Firecracker starts: it opens them then, and
// what isn't there later can't be left behind.
type jail struct {
	root string // as the host sees it
	uid  int    // also the group

	files []string // host paths of the VM's files in the jail
}

// jailsDir is below the VM's state directory: on a filesystem with devices,
// and gone with the VM at the latest.
func jailsDir(spec vmm.Spec) string { return filepath.Join(spec.StateDir, "jail") }

// findJail returns the jail that a VM was started in, or fs.ErrNotExist.
func findJail(spec vmm.Spec, id string) (*jail, error) {
	// The directory between is named after Firecracker's program at that time.
	roots, err := filepath.Glob(filepath.Join(escapeGlob(jailsDir(spec)), "*", id, "root"))
	if err != nil {
		return nil, fmt.Errorf("find jail: %w", err)
	}
	if len(roots) == 0 {
		return nil, fs.ErrNotExist
	}
	return &jail{root: roots[0], uid: jailUID(spec.ID)}, nil
}

// escapeGlob quotes what filepath.Match takes as a pattern.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// furnish puts the VM's files into the jail, and returns the VM with their
// names there. Files keep their inodes, from which the drives' serials follow.
func (j *jail) furnish(spec vmm.Spec) (vmm.Spec, error) {
	view := spec
	view.Drives = append([]vmm.Drive(nil), spec.Drives...)
	type file struct {
		host  string
		name  string
		place *string
	}
	files := []file{{spec.Kernel, "kernel", &view.Kernel}, {spec.Initramfs, "initramfs", &view.Initramfs}}
	for i, d := range spec.Drives {
		if !d.ReadOnly {
			if err := os.Chown(d.Path, j.uid, j.uid); err != nil {
				return vmm.Spec{}, fmt.Errorf("give drive %s to the jail: %w", d.ID, err)
			}
		}
		files = append(files, file{d.Path, fmt.Sprintf("drive%d", i), &view.Drives[i].Path})
	}
	for _, f := range files {
		if err := j.add(f.host, f.name); err != nil {
			return vmm.Spec{}, err
		}
		*f.place = "/" + f.name
	}
	return view, nil
}

// add makes a file of the host appear in the jail: by a hard link, or by a
// bind mount if it is on another filesystem.
func (j *jail) add(host, name string) error {
	inside := filepath.Join(j.root, name)
	real, err := filepath.EvalSymlinks(host) // a link to the link wouldn't lead anywhere
	if err != nil {
		return fmt.Errorf("put %s into the jail: %w", name, err)
	}
	j.files = append(j.files, inside)
	err = os.Link(real, inside)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EMLINK) {
		return fmt.Errorf("put %s into the jail: %w", name, err)
	}
	if err := os.WriteFile(inside, nil, 0o600); err != nil {
		return fmt.Errorf("put %s into the jail: %w", name, err)
	}
	if err := unix.Mount(real, inside, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("put %s into the jail: bind %s: %w", name, real, err)
	}
	return nil
}

// release takes the VM's files out of the jail again. Firecracker has them
// open.
func (j *jail) release() error {
	var errs []error
	for _, path := range j.files {
		errs = append(errs, removeJailed(path))
	}
	j.files = nil
	return errors.Join(errs...)
}

// removeJailed removes a file from a jail, and never the host's file behind
// it.
func removeJailed(path string) error {
	// Firecracker's own mount namespace may hold the file open: detach.
	// EINVAL: it is no mount; EPERM: a plain user hasn't mounted anything.
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take a file out of the jail: %w", err)
	}
	return nil
}

func (j *jail) undo(spec vmm.Spec) func(context.Context) error {
	return func(ctx context.Context) error { return removeLeftovers(ctx, spec) }
}

// Clean removes the jail and the control group of a VM that ended while no
// bangerd was connected.
func (d *Driver) Clean(ctx context.Context, spec vmm.Spec) error { return removeLeftovers(ctx, spec) }

// removeLeftovers removes a VM's jail and control group, if there are any.
func removeLeftovers(ctx context.Context, spec vmm.Spec) error {
	id := instanceID(spec)
	j, err := findJail(spec, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(j.root)
	if err != nil {
		return fmt.Errorf("remove jail: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		if entry.Type().IsRegular() {
			errs = append(errs, removeJailed(filepath.Join(j.root, entry.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(jailsDir(spec)), removeCgroup(ctx, id))
}
