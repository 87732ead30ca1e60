package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"banger/internal/guard"
	"banger/internal/network"
	"banger/internal/vmm"
)

// settleTimeout is how long bangerd's start waits for VMMs to answer. What
// takes longer goes on beside everything else.
const settleTimeout = 2 * time.Second

// Reconcile compares the records with what exists, once, when bangerd starts:
// VMMs that run are adopted, those that ended meanwhile are noted, what an
// interrupted create, start or delete left is removed. All VMs are looked at
// at once. One that can't be made sense of is kept as it is, shown as
// api.StateUnknown and tried again in the background; it keeps neither another
// one nor bangerd from working.
func (m *Manager) Reconcile(ctx context.Context) error {
	recs, err := m.records.load(ctx)
	if err != nil {
		return err
	}
	if m.cfg.Copied {
		if recs, err = m.dropHandles(ctx, recs); err != nil {
			return err
		}
	}
	m.tasks.Go(guard.Func("watch the host's clock", m.watchClock))
	var searches []*unreached
	for _, rec := range recs {
		switch {
		case rec.broken != nil:
			m.log.Error("a VM is left as it is", "vm", rec.Name, "reason", rec.broken)
		case rec.Stage != StageDown || rec.Doomed:
			searches = append(searches, m.search(rec.ID, rec.Name))
		}
	}
	limit := time.After(settleTimeout)
	for _, u := range searches {
		select {
		case <-u.tried:
		case <-limit:
			limit = nil
			m.log.Warn("some VMMs don't answer; they are tried on")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if limit == nil {
			break
		}
	}
	err = m.reconcileNetwork(ctx)
	if err != nil {
		m.log.Error("put the network right; it is tried again", "err", err)
	}
	m.keepNetwork(err == nil)
	return nil
}

// dropHandles makes records say that no VMM runs.
func (m *Manager) dropHandles(ctx context.Context, recs []Record) ([]Record, error) {
	for i, rec := range recs {
		if rec.Stage == StageDown {
			continue
		}
		updated, err := m.records.update(ctx, rec.ID, func(r *Record) { r.ended("it ran where this was copied from") })
		if err != nil {
			return nil, err
		}
		recs[i] = updated
	}
	return recs, nil
}

// settle makes a record and what exists agree, or returns why it can't.
func (m *Manager) settle(ctx context.Context, rec Record) error {
	if rec.Stage.hasGuest() && !rec.Doomed {
		adopted, err := m.adopt(ctx, rec)
		if err != nil || adopted {
			return err
		}
	} else if err := m.endVMM(ctx, rec); err != nil { // what is left of an interrupted start
		return err
	}
	if rec.Doomed {
		m.log.Info("remove what an interruption left of a VM", "vm", rec.Name)
		return m.discard(ctx, rec)
	}
	return m.noteGone(ctx, rec, "its VMM ended while bangerd wasn't running")
}

// noteGone cleans up behind a VMM that doesn't exist any more, and writes that
// down.
func (m *Manager) noteGone(ctx context.Context, rec Record, reason string) error {
	return errors.Join(m.cleanVMM(ctx, rec), m.cleanRuntime(ctx, rec), m.noteEnd(ctx, rec.ID, func(r *Record) { r.ended(reason) }))
}

// adopt connects to the VMM of a record, if it still runs.
func (m *Manager) adopt(ctx context.Context, rec Record) (bool, error) {
	driver, err := m.cfg.Drivers.Named(rec.Handle.Driver)
	if err != nil {
		return false, err
	}
	process, err := m.hold(rec)
	if errors.Is(err, vmm.ErrGone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_ = process.Close() // the driver takes hold of it by itself
	// An adopted machine never starts again, so what it booted from is not
	// looked up.
	machine, err := driver.Adopt(ctx, m.spec(rec, assets{}), *rec.Handle)
	if errors.Is(err, vmm.ErrGone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	inst := m.track(rec, driver, machine)
	m.log.Info("adopted a running VM", "vm", rec.Name, "pid", rec.Handle.PID)
	inst.followClock()
	m.mend(ctx, inst)
	switch {
	case rec.Stopping:
		m.finishStop(inst)
	case rec.Stage == StageBooted:
		inst.watchReady()
	}
	return true, nil
}

// places are the directories by which the processes of a VM are known.
func (m *Manager) places(id string) vmm.Places {
	return vmm.Places{StateDir: m.cfg.Layout.VMDir(id), RuntimeDir: m.cfg.Layout.VMRuntimeDir(id)}
}

// hold takes hold of the process of a record's handle. It returns vmm.ErrGone if
// that has ended; since the host's boot another one may have its pid and, by
// chance, its start time.
func (m *Manager) hold(rec Record) (*vmm.Process, error) {
	process, err := vmm.OpenProcess(rec.Handle.PID, rec.Handle.StartTime)
	if err != nil {
		return nil, err
	}
	if ours, err := m.places(rec.ID).Has(process.PID()); err == nil && !ours {
		return nil, errors.Join(vmm.ErrGone, process.Close())
	}
	return process, nil
}

// endVMM ends what runs of a VM that bangerd isn't connected to: the process of
// its handle or, if a start was interrupted before that was stored or if the
// record is damaged, those in its directories.
func (m *Manager) endVMM(ctx context.Context, rec Record) error {
	if rec.Stage.hasVMM() {
		process, err := m.hold(rec)
		if errors.Is(err, vmm.ErrGone) {
			return nil
		}
		if err != nil {
			return err
		}
		return m.endProcess(ctx, rec, process)
	}
	if rec.Stage != StageLaunching && rec.broken == nil {
		return nil
	}
	pids, err := m.places(rec.ID).Processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		process, err := vmm.FindProcess(pid)
		if err != nil {
			continue // gone meanwhile
		}
		if err := m.endProcess(ctx, rec, process); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) endProcess(ctx context.Context, rec Record, process *vmm.Process) error {
	m.log.Warn("end a VMM that bangerd isn't connected to", "vm", rec.Name, "pid", process.PID())
	if err := errors.Join(process.Kill(ctx), process.Close()); err != nil {
		return fmt.Errorf("end the VMM of %s, process %d: %w", rec.Name, process.PID(), err)
	}
	return nil
}

// cleanVMM removes what a VMM leaves on the host when no bangerd sees it end.
func (m *Manager) cleanVMM(ctx context.Context, rec Record) error {
	driver, err := m.cfg.Drivers.Named(rec.Driver)
	if err != nil {
		return nil //nolint:nilerr // it was never started, or nobody knows what it left
	}
	if cleaner, ok := driver.(vmm.Cleaner); ok {
		return cleaner.Clean(ctx, m.spec(rec, assets{}))
	}
	return nil
}

// reconcileNetwork removes what no VM can have of the network, and puts right what
// VMs have. It may come at any time.
func (m *Manager) reconcileNetwork(ctx context.Context) error {
	err := m.cfg.Network.Keep(ctx, func() ([]network.Port, error) {
		recs, err := m.records.list(ctx)
		if err != nil {
			return nil, err
		}
		var wanted []network.Port
		for _, rec := range recs {
			if f := m.facts(rec); f.alive || f.operation != opNone || f.unreached != "" || rec.broken != nil && !m.cfg.Copied {
				wanted = append(wanted, rec.port())
			}
		}
		return wanted, nil
	})
	if err != nil {
		return err
	}
	m.mendAll(ctx)
	return nil
}

// removeFiles removes a VM's directory.
func (m *Manager) removeFiles(rec Record) error {
	if err := os.RemoveAll(m.cfg.Layout.VMDir(rec.ID)); err != nil {
		return fmt.Errorf("remove the files of VM %s: %w", rec.Name, err)
	}
	return nil
}
