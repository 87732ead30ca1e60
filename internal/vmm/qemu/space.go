package qemu

import (
	"context"
	"encoding/json"
	"time"

	"banger/internal/room"
	"banger/internal/vmm"
)

const (
	// spaceInterval is how often a guest without room for what it writes is
	// looked after.
	spaceInterval = time.Second
	// enoughSpace is how many bytes have to be free before it goes on: with less
	// it would soon be stopped again.
	enoughSpace = 32 << 20
)

// QEMU stops a guest whose write to a disk fails for want of space (werror=enospc
// is its default), and repeats the write when it is told to go on. No other
// error stops it: the guest is told of those.

// Held tells whether QEMU has stopped the guest for want of space.
func (m *Machine) Held() (why string, changed <-chan struct{}) { return m.hold.Held() }

// noteDiskError notes an event BLOCK_IO_ERROR that has stopped the guest.
func (m *Machine) noteDiskError(data json.RawMessage) {
	m.warn("a disk of the VM fails", string(data))
	var event struct {
		Action  string `json:"action"`
		NoSpace bool   `json:"nospace"`
	}
	if err := json.Unmarshal(data, &event); err != nil {
		m.warn("QEMU's event BLOCK_IO_ERROR isn't understood", err.Error())
		return
	}
	if event.Action == "stop" && event.NoSpace {
		m.hold.Set(vmm.DiskFull)
	}
}

// keepGoing lets the guest go on whenever there is space again. A QEMU that was
// adopted may have stopped it unseen.
func (m *Machine) keepGoing() {
	m.noteStatus()
	ticks := time.NewTicker(spaceInterval)
	defer ticks.Stop()
	for {
		why, changed := m.hold.Held()
		if why == "" {
			select {
			case <-changed:
			case <-m.Context().Done():
				return
			}
		}
		select {
		case <-ticks.C:
		case <-m.Context().Done():
			return
		}
		if m.hasSpace() {
			m.goOn()
		}
	}
}

func (m *Machine) noteStatus() {
	var status struct {
		Status string `json:"status"`
	}
	if err := m.qmp.Execute(m.Context(), "query-status", nil, &status); err != nil {
		if m.Context().Err() == nil {
			m.Log.Warn("ask whether the guest runs", "err", err)
		}
		return
	}
	if status.Status == "io-error" {
		m.hold.Set(vmm.DiskFull)
	}
}

// hasSpace tells whether the guest can write. Where that can't be found out, it
// is tried.
func (m *Machine) hasSpace() bool {
	for _, drive := range m.Spec.Drives {
		if drive.ReadOnly {
			continue
		}
		if space, err := room.Free(drive.Path); err == nil && space < enoughSpace {
			return false
		}
	}
	return true
}

// goOn has QEMU repeat the writes that failed. Its events tell how that went.
func (m *Machine) goOn() {
	if why, _ := m.hold.Held(); why == "" {
		return
	}
	ctx, cancel := context.WithTimeout(m.Context(), qmpTimeout)
	defer cancel()
	if err := m.qmp.Execute(ctx, "cont", nil, nil); err != nil && m.Context().Err() == nil {
		m.warn("the VM can't go on", err.Error())
	}
}
