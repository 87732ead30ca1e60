package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// mountReadOnly mounts a directory over itself, read-only. What is mounted below
// stays there, and as it is. It keeps programs of the guest from writing by
// mistake; root there can undo it.
func mountReadOnly(dir *os.File) error {
	const clone = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE | unix.AT_EMPTY_PATH
	tree, err := unix.OpenTree(int(dir.Fd()), "", clone)
	if err != nil {
		return fmt.Errorf("make %s read-only: %w", dir.Name(), err)
	}
	defer unix.Close(tree)
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err == nil {
		err = unix.MoveMount(tree, "", int(dir.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	}
	if err != nil {
		return fmt.Errorf("make %s read-only: %w", dir.Name(), err)
	}
	return nil
}

// protect is mountReadOnly for directories of a root that is about to be booted,
// as far as they are there: the last step, for the others may write there. It
// returns a line for each that it failed for.
func protect(root *rootDir, dirs []string) (warnings []string) {
	for _, name := range dirs {
		dir, err := root.open(name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = mountReadOnly(dir)
			_ = dir.Close()
		}
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("programs in the guest can write to the read-only copy at %s: %v", name, err))
		}
	}
	return warnings
}
