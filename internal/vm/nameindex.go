package vm

import (
	"net/netip"
	"sync"
)

// nameIndex has the names and addresses of all records in memory. DNS asks it:
// a guest may ask as often as it likes, and the records have one connection
// that everything else waits for. The zero value is empty.
type nameIndex struct {
	mu     sync.RWMutex
	byName map[string]indexed
	byAddr map[netip.Addr]indexed
}

type indexed struct {
	id, name string
	addr     netip.Addr
}

// fill replaces what the index has.
func (x *nameIndex) fill(recs []Record) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.byName = make(map[string]indexed, len(recs))
	x.byAddr = make(map[netip.Addr]indexed, len(recs))
	for _, rec := range recs {
		x.add(rec)
	}
}

func (x *nameIndex) insert(rec Record) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.add(rec)
}

// add must be called with mu held.
func (x *nameIndex) add(rec Record) {
	if x.byName == nil {
		x.byName, x.byAddr = make(map[string]indexed), make(map[netip.Addr]indexed)
	}
	one := indexed{id: rec.ID, name: rec.Name, addr: rec.IP}
	x.byName[rec.Name] = one
	x.byAddr[rec.IP] = one
}

// remove forgets the record with that id. Its name and address may have gone to
// another one since it was removed from the database.
func (x *nameIndex) remove(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for name, one := range x.byName {
		if one.id == id {
			delete(x.byName, name)
		}
	}
	for addr, one := range x.byAddr {
		if one.id == id {
			delete(x.byAddr, addr)
		}
	}
}

func (x *nameIndex) address(name string) (netip.Addr, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	one, ok := x.byName[name]
	return one.addr, ok
}

func (x *nameIndex) name(addr netip.Addr) (string, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	one, ok := x.byAddr[addr]
	return one.name, ok
}
