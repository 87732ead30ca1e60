package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"banger/internal/network"
	"banger/internal/vmm"
)

// Reconcile compares the records with what exists, once, when bangerd starts:
// VMMs that run are adopted, those that ended meanwhile are noted, what an
// interrupted create, start or delete left is removed. What it can't make sense
// of, it reports and leaves alone.
func (m *Manager) Reconcile(ctx context.Context) error {
	recs, err := m.records.load(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, rec := range recs {
		if err := m.reconcile(ctx, rec); err != nil {
			errs = append(errs, fmt.Errorf("reconcile VM %s: %w", rec.Name, err))
		}
	}
	errs = append(errs, m.reconcileNetwork(ctx))
	return errors.Join(errs...)
}

func (m *Manager) reconcile(ctx context.Context, rec Record) error {
	if rec.Launching {
		if err := m.endOrphan(ctx, rec); err != nil {
			return err
		}
	}
	if rec.Handle != nil {
		adopted, err := m.adopt(ctx, rec)
		if err != nil || (adopted && rec.Booted && !rec.Doomed) {
			return err
		}
		if inst, err := m.instance(rec); err == nil { // an interrupted start
			if err := inst.kill(ctx); err != nil {
				return err
			}
		}
	}
	if rec.Doomed {
		m.log.Info("remove what an interruption left of a VM", "vm", rec.Name)
		return m.discard(ctx, rec)
	}
	if rec.Handle != nil || rec.Launching {
		reason := "its VMM ended while bangerd wasn't running"
		if rec, err := m.records.update(ctx, rec.ID, func(r *Record) { r.ended(reason) }); err != nil {
			return err
		} else if err := m.cleanRuntime(ctx, rec); err != nil {
			return err
		}
	}
	return nil
}

// adopt connects to the VMM of a record, if it still runs.
func (m *Manager) adopt(ctx context.Context, rec Record) (bool, error) {
	driver, err := m.cfg.Drivers.Named(rec.Handle.Driver)
	if err != nil {
		return false, err
	}
	// An adopted machine never starts again, so what it booted from is not
	// looked up.
	spec := m.spec(rec, assets{})
	machine, err := driver.Adopt(ctx, spec, *rec.Handle)
	if errors.Is(err, vmm.ErrGone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	inst := m.track(rec, driver, machine)
	m.log.Info("adopted a running VM", "vm", rec.Name, "pid", rec.Handle.PID)
	if rec.Booted && !rec.Ready {
		inst.watchReady()
	}
	return true, nil
}

// endOrphan ends a VMM whose handle never reached the record. It is known by
// its working directory, which is the VM's own.
func (m *Manager) endOrphan(ctx context.Context, rec Record) error {
	dir := m.cfg.Layout.VMRuntimeDir(rec.ID)
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		return fmt.Errorf("search for the VMM: %w", err)
	}
	for _, link := range links {
		if cwd, err := os.Readlink(link); err != nil || cwd != dir {
			continue // not ours, or gone meanwhile
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err != nil {
			continue
		}
		process, err := vmm.FindProcess(pid)
		if err != nil {
			continue // gone meanwhile
		}
		m.log.Warn("end a VMM that an interrupted start left", "vm", rec.Name, "pid", pid)
		if err := process.Kill(ctx); err != nil {
			return fmt.Errorf("end the VMM %d that an interrupted start left: %w", pid, err)
		}
	}
	return nil
}

// reconcileNetwork removes taps that no running VM has, and the network with
// the last one.
func (m *Manager) reconcileNetwork(ctx context.Context) error {
	m.netMu.Lock()
	defer m.netMu.Unlock()
	taps, err := m.cfg.Network.Taps(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	var wanted []string
	for id := range m.running {
		wanted = append(wanted, network.TapName(id))
	}
	m.mu.Unlock()
	for _, tap := range taps {
		if !slices.Contains(wanted, tap) {
			m.log.Warn("remove a tap that no VM has", "tap", tap)
			if err := m.cfg.Network.DetachTap(ctx, tap); err != nil {
				return err
			}
		}
	}
	if len(wanted) == 0 {
		return m.cfg.Network.Down(ctx)
	}
	if err := m.cfg.Network.Up(ctx); err != nil {
		return err
	}
	return m.reattach(ctx)
}

// reattach puts the taps of all running VMs right: an older bangerd may have
// made them, with fewer rules.
func (m *Manager) reattach(ctx context.Context) error {
	recs, err := m.records.list(ctx)
	if err != nil {
		return err
	}
	for _, rec := range recs {
		if !m.facts(rec).alive {
			continue
		}
		if err := m.cfg.Network.AttachTap(ctx, network.TapName(rec.ID), rec.IP); err != nil {
			m.log.Error("put the network of a VM right", "vm", rec.Name, "err", err)
		}
	}
	return nil
}

// removeFiles removes a VM's directory.
func (m *Manager) removeFiles(rec Record) error {
	if err := os.RemoveAll(m.cfg.Layout.VMDir(rec.ID)); err != nil {
		return fmt.Errorf("remove the files of VM %s: %w", rec.Name, err)
	}
	return nil
}
