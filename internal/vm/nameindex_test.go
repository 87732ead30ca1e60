package vm

import (
	"net/netip"
	"testing"
	"time"

	"banger/internal/api"
)

// wantName checks what DNS is told. Lookups must not wait for the records'
// connection, which the test holds meanwhile.
func (w *world) wantName(t *testing.T, name, ip string) {
	t.Helper()
	conn, err := w.config.DB.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if addr, ok := w.Lookup(name); ok != (ip != "") || ok && addr.String() != ip {
			t.Errorf("%s is at %v, %v; want %q", name, addr, ok, ip)
		}
		if ip == "" {
			return
		}
		if got, ok := w.ReverseLookup(netip.MustParseAddr(ip)); !ok || got != name {
			t.Errorf("%s is %q, %v; want %s", ip, got, ok, name)
		}
	}()
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		t.Fatal("the lookup waits for the database")
	}
}

func TestNamesAreAnsweredFromMemory(t *testing.T) {
	w := newWorld(t)
	w.wantName(t, "web", "")
	vm := w.create(t, api.CreateVM{Name: "web"})
	w.wantName(t, "web", vm.IP)
	if _, ok := w.Lookup(vm.ID); ok {
		t.Error("DNS knows ids")
	}
	w.restart(t)
	w.wantName(t, "web", vm.IP)
	if _, err := w.Stop(t.Context(), "web", api.StopVM{}, nil); err != nil {
		t.Fatal(err)
	}
	w.wantName(t, "web", vm.IP)
	if err := w.Delete(t.Context(), "web", api.DeleteVM{}); err != nil {
		t.Fatal(err)
	}
	w.wantName(t, "web", "")
	if name, ok := w.ReverseLookup(netip.MustParseAddr(vm.IP)); ok {
		t.Errorf("%s is still %s", vm.IP, name)
	}
}

// A name and an address may go to another VM between the end of a record in the
// database and in the index.
func TestNameIndexKeepsSuccessors(t *testing.T) {
	var x nameIndex
	addr := netip.MustParseAddr("172.16.0.2")
	x.insert(Record{ID: "old", Name: "web", IP: addr})
	x.insert(Record{ID: "new", Name: "web", IP: addr})
	x.remove("old")
	if got, ok := x.address("web"); !ok || got != addr {
		t.Errorf("got %v, %v", got, ok)
	}
	if got, ok := x.name(addr); !ok || got != "web" {
		t.Errorf("got %q, %v", got, ok)
	}
}
