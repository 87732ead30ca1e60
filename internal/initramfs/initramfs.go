// Package initramfs makes the first root file system of every VM: the agent
// as /init and the kernel modules that it loads. Nothing of a particular VM is
// in it, so VMs of the same kernel and agent share one.
package initramfs

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"banger/internal/paths"
	"banger/internal/room"
)

// suffix is the file name's end of a finished initramfs.
const suffix = ".cpio"

// layoutVersion is raised when Build makes something else of the same files.
const layoutVersion = 1

// Build writes an initramfs:
//
//	/init             the file agentPath
//	/modules/NAME     the files modules; names are those of the files, which
//	                  sort in load order
//	/dev, /dev/console, /proc, /sys, /mnt
//
// It isn't compressed: the kernel copies it faster than it unpacks it, which
// matters where the CPU is emulated.
func Build(w io.Writer, agentPath string, modules []string) error {
	c := newCPIOWriter(w)
	for _, name := range []string{"dev", "proc", "sys", "mnt", "modules"} {
		if err := c.add(entry{name: name, mode: typeDir | 0o755}); err != nil {
			return err
		}
	}
	// The kernel opens it as the standard streams of /init, before anything
	// is mounted.
	if err := c.add(entry{name: "dev/console", mode: typeChar | 0o600, major: 5, minor: 1}); err != nil {
		return err
	}
	if err := addFile(c, "init", 0o755, agentPath); err != nil {
		return err
	}
	for _, path := range modules {
		if err := addFile(c, "modules/"+filepath.Base(path), 0o644, path); err != nil {
			return err
		}
	}
	return c.Close()
}

func addFile(c *cpioWriter, name string, mode uint32, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("add %s to the initramfs: it is not a regular file", path)
	}
	if err := c.add(entry{name: name, mode: typeRegular | mode, size: info.Size()}); err != nil {
		return err
	}
	if _, err := io.Copy(c, f); err != nil {
		return fmt.Errorf("add %s to the initramfs: %w", path, err)
	}
	return nil
}

// Ensure returns the path of the initramfs of a kernel and an agent, and makes
// it if it isn't in the cache. The modules are those of the kernel, in load
// order. Those of earlier agents with the same kernel are removed; VMMs that
// run have read them already.
func Ensure(layout paths.Layout, kernelName string, modules []string, agentPath string) (string, error) {
	if kernelName == "" || kernelName != filepath.Base(kernelName) || kernelName[0] == '.' {
		return "", fmt.Errorf("make an initramfs: bad kernel name %q", kernelName)
	}
	key, err := contentKey(agentPath, modules)
	if err != nil {
		return "", fmt.Errorf("make the initramfs of kernel %s: %w", kernelName, err)
	}
	dir := filepath.Join(layout.InitramfsDir(), kernelName)
	path := filepath.Join(dir, key+suffix)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the initramfs of kernel %s: %w", kernelName, room.Explain(err, layout.Cache))
	}
	unlock, err := lock(dir)
	if err != nil {
		return "", fmt.Errorf("lock %s: %w", dir, err)
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil // another call was quicker
	}
	if err := write(path, agentPath, modules); err != nil {
		return "", fmt.Errorf("make the initramfs of kernel %s: %w", kernelName, room.Explain(err, layout.Cache))
	}
	return path, removeOthers(dir, key+suffix)
}

// lock keeps other calls from removing what this one writes.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// write makes the file at once or not at all. Everybody may read it, as VMMs in
// jails are users of their own.
func write(path, agentPath string, modules []string) error {
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() { _ = f.Cleanup() }() // does nothing after the replacement
	w := bufio.NewWriterSize(f, 256<<10)
	if err := Build(w, agentPath, modules); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// removeOthers removes all but one initramfs, and what an interrupted write
// left.
func removeOthers(dir, keep string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for old initramfs files: %w", err)
	}
	for _, e := range entries {
		if e.Name() == keep {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old initramfs: %w", err)
		}
	}
	return nil
}

// contentKey is a hash of all that Build reads.
func contentKey(agentPath string, modules []string) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, "layout", layoutVersion)
	for _, path := range append([]string{agentPath}, modules...) {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		one := sha256.New()
		_, err = io.Copy(one, f)
		f.Close()
		if err != nil {
			return "", fmt.Errorf("read %s: %w", path, err)
		}
		fmt.Fprintf(hash, "%s\x00%x\n", filepath.Base(path), one.Sum(nil))
	}
	return hex.EncodeToString(hash.Sum(nil)[:12]), nil
}
