package vm

import (
	"slices"
	"testing"

	"banger/internal/api"
)

// A VM has its ports of the host while it runs, also after bangerd's restart.
func TestHostPorts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	vm := w.create(t, api.CreateVM{Name: "web", HostPorts: []uint16{5432}})
	if !slices.Equal(vm.HostPorts, []uint16{5432}) {
		t.Errorf("the VM tells of %v", vm.HostPorts)
	}
	open := func() []uint16 {
		w.net.mu.Lock()
		defer w.net.mu.Unlock()
		var all []uint16
		for addr, ports := range w.net.ports {
			if addr.String() != vm.IP {
				t.Errorf("%v are open to %s", ports, addr)
			}
			all = append(all, ports...)
		}
		return all
	}
	if got := open(); !slices.Equal(got, []uint16{5432}) {
		t.Errorf("open: %v", got)
	}
	w.net.ports = nil // they went with bangerd
	w.restart(t)
	if got := open(); !slices.Equal(got, []uint16{5432}) {
		t.Errorf("open after bangerd's restart: %v", got)
	}
	if _, err := w.Stop(t.Context(), "web", api.StopVM{}, nil); err != nil {
		t.Fatal(err)
	}
	if got := open(); len(got) > 0 {
		t.Errorf("open after the stop: %v", got)
	}
	if _, err := w.Start(t.Context(), "web", api.StartVM{}, nil); err != nil {
		t.Fatal(err)
	}
	if got := open(); !slices.Equal(got, []uint16{5432}) {
		t.Errorf("open after the start: %v", got)
	}
}
