package vm

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"banger/internal/api"
	"banger/internal/store"
	"banger/internal/vmm"
)

// fullDisk has every change of a record fail from now on as on a full disk, until
// it is undone.
func (w *world) fullDisk(t *testing.T) (undo func()) {
	t.Helper()
	exec := func(statements string) {
		t.Helper()
		if _, err := w.config.DB.Exec(statements); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE TABLE ballast (b BLOB);
		CREATE TRIGGER full BEFORE UPDATE ON vms BEGIN INSERT INTO ballast VALUES (zeroblob(1000000)); END;
		PRAGMA max_page_count = 1`) // no less than there are
	return func() { exec("DROP TRIGGER full") }
}

// TestForceWithAFullDisk: a VM can be ended by force where that can't be written
// down, nothing is left of its run, and what the record still says does no harm.
func TestForceWithAFullDisk(t *testing.T) {
	w := newWorld(t)
	vm := w.create(t, api.CreateVM{Name: "web", Shape: api.Shape{SwapBytes: 64 << 20}})
	other := w.create(t, api.CreateVM{Name: "other"})
	free := w.fullDisk(t)
	w.driver.VM(vm.ID).Hold(vmm.DiskFull)
	if _, err := w.records.update(t.Context(), vm.ID, func(*Record) {}); !store.IsFull(err) || !errors.Is(err, api.ErrHost) {
		t.Fatal(err)
	}
	if got, err := w.Stop(t.Context(), "web", api.StopVM{Force: true}, nil); err != nil || got.State != api.StateStopped {
		t.Errorf("stop: %+v, %v", got, err)
	}
	if _, taps := w.net.state(); len(taps) != 1 {
		t.Errorf("taps are left: %v", taps)
	}
	for _, path := range []string{w.config.Layout.VMSwap(vm.ID), w.config.Layout.VMRuntimeDir(vm.ID)} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	if err := w.Delete(t.Context(), "other", api.DeleteVM{Force: true}); err != nil {
		t.Errorf("delete: %v", err)
	}
	if _, err := os.Stat(w.config.Layout.VMDir(other.ID)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its files are left: %v", err)
	}
	free()
	w.restart(t)
	if got, err := w.Start(t.Context(), "web", api.StartVM{}, nil); err != nil || got.State != api.StateRunning {
		t.Errorf("start: %+v, %v", got, err)
	}
}

// TestEndThatCouldNotBeNoted: the end of a stop that couldn't be written down
// isn't taken for one of the next run.
func TestEndThatCouldNotBeNoted(t *testing.T) {
	w, asked, letGo := slowToStop(t)
	w.create(t, api.CreateVM{Name: "web"})
	stopped := w.stopping(t.Context(), "web")
	<-asked
	free := w.fullDisk(t)
	close(letGo)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	free()
	if got, err := w.Start(t.Context(), "web", api.StartVM{}, nil); err != nil || got.State != api.StateRunning {
		t.Errorf("start: %+v, %v", got, err)
	}
}
