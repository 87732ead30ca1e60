package firecracker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"banger/internal/undo"
	"banger/internal/vmm"
)

// place is where a Firecracker runs: on the host, or in a jail.
type place struct {
	id   string // of the instance
	dir  string // its working directory, as the host sees it; sockets are there
	logs string // directory of its log and metrics, as the host sees it
	jail *jail  // nil on the host

	// For Start only.
	command vmm.Command
	view    vmm.Spec // the VM, with its files under Firecracker's names for them
}

// prepare makes the place for a VM that is about to start. What is left of an
// earlier jail is removed.
func (d *Driver) prepare(ctx context.Context, spec vmm.Spec, steps *undo.Stack) (place, error) {
	if err := removeLeftovers(ctx, spec); err != nil {
		return place{}, err
	}
	jailed, err := d.config.Jailer.wanted(spec, d.config.Log)
	if err != nil {
		return place{}, err
	}
	id := instanceID(spec)
	if jailed {
		return d.prepareJail(spec, id, steps)
	}
	return place{
		id: id, dir: spec.RuntimeDir, logs: spec.StateDir, view: spec,
		command: vmm.Command{
			Path: d.config.Binary, Args: args(id, spec.StateDir), Dir: spec.RuntimeDir, Log: spec.Console,
			MaxFile: vmm.LargestFile(spec),
		},
	}, nil
}

// args are Firecracker's arguments. The log is set up here and not by the API,
// so that early errors are in it.
func args(id, logs string) []string {
	return append([]string{"--id", id}, jailedArgs(logs)...)
}

// jailedArgs are those that the jailer passes on; it adds the id itself.
func jailedArgs(logs string) []string {
	return []string{
		"--api-sock", apiSocket,
		"--log-path", filepath.Join(logs, logName), "--level", "Info", "--show-level",
		"--metrics-path", filepath.Join(logs, metricsName),
	}
}

// find returns the place of a VM that was started earlier.
func (d *Driver) find(spec vmm.Spec) (place, error) {
	id := instanceID(spec)
	jail, err := findJail(spec, id)
	if errors.Is(err, fs.ErrNotExist) {
		return place{id: id, dir: spec.RuntimeDir, logs: spec.StateDir}, nil
	}
	if err != nil {
		return place{}, err
	}
	return place{id: id, dir: jail.root, logs: jail.root, jail: jail}, nil
}

// own gives files in the log directory to Firecracker's user.
func (p place) own(names ...string) error {
	if p.jail == nil {
		return nil
	}
	for _, name := range names {
		if err := os.Chown(filepath.Join(p.logs, name), p.jail.uid, p.jail.uid); err != nil {
			return fmt.Errorf("give a log to the jail: %w", err)
		}
	}
	return nil
}

// release takes back what only a starting Firecracker needs.
func (p place) release() error {
	if p.jail == nil {
		return nil
	}
	return p.jail.release()
}

// remove clears up behind a Firecracker that has ended. Its log stays.
func (p place) remove(ctx context.Context, spec vmm.Spec) error {
	if p.jail == nil {
		return nil
	}
	var errs []error
	for _, name := range []string{logName, metricsName} {
		inside := filepath.Join(p.logs, name)
		info, err := os.Lstat(inside)
		if err == nil && info.Mode().IsRegular() { // and no link out of the jail
			err = os.Rename(inside, filepath.Join(spec.StateDir, name))
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, removeLeftovers(ctx, spec))...)
}
