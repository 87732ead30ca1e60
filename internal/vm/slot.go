package vm

// slot is what bangerd has in memory of a VM.
type slot struct {
	// inst is the VM's run: from the start of its VMM, or its adoption, until
	// nothing of it is left.
	inst *instance
	// lost is a VMM that may run without a connection to bangerd.
	lost *unreached
	// job is what a call is doing to the VM.
	job *job
}

// slot returns what is known of a VM at the moment.
func (m *Manager) slot(id string) slot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.slots[id]
}

// setSlot changes what is known of a VM.
func (m *Manager) setSlot(id string, change func(*slot)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setSlotLocked(id, change)
}

// setSlotLocked is setSlot for callers that hold mu.
func (m *Manager) setSlotLocked(id string, change func(*slot)) {
	s := m.slots[id]
	change(&s)
	if s == (slot{}) {
		delete(m.slots, id)
		return
	}
	m.slots[id] = s
}

// instances are the runs of all VMs. The caller holds mu.
func (m *Manager) instances() []*instance {
	var all []*instance
	for _, s := range m.slots {
		if s.inst != nil {
			all = append(all, s.inst)
		}
	}
	return all
}
