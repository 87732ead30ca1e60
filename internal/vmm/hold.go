package vmm

import "sync"

// Holder is a Machine whose VMM stops its guest where that can't go on, say for
// want of space, and lets it go on once it can. Guests of other machines get an
// error instead.
type Holder interface {
	// Held tells in words why the guest is stopped, "" while it isn't. The
	// channel is closed when that changes.
	Held() (why string, changed <-chan struct{})
}

// DiskFull is why a guest is held that has no room to write to.
const DiskFull = "the host's disk is full"

// Hold is a Holder's state. Its zero value is that of a guest that runs.
type Hold struct {
	mu      sync.Mutex
	why     string
	changed chan struct{} // nil before it is asked for
}

// Held is Holder.Held.
func (h *Hold) Held() (why string, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed == nil {
		h.changed = make(chan struct{})
	}
	return h.why, h.changed
}

// Set notes why the guest is held, "" that it isn't any more.
func (h *Hold) Set(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why == why {
		return
	}
	h.why = why
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}
