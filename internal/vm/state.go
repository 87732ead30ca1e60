package vm

import (
	"fmt"

	"banger/internal/api"
	"banger/internal/network"
)

// facts is what can be seen of a VM at this moment.
type facts struct {
	alive     bool      // its VMM process exists
	operation operation // what is being done to it, if anything
}

// observe derives the state of a VM. It is the only place that does.
func observe(rec Record, f facts) api.State {
	switch {
	case f.operation == opStop && f.alive:
		return api.StateStopping
	case f.alive && rec.Ready:
		return api.StateRunning
	case f.alive:
		return api.StateStarting
	case f.operation == opCreate || f.operation == opStart:
		return api.StateStarting
	case rec.StartedAt == nil:
		return api.StateCreated
	default:
		return api.StateStopped
	}
}

// operation is what a call is doing to a VM. A VM has at most one at a time.
type operation string

const (
	opNone   operation = ""
	opCreate operation = "being created"
	opStart  operation = "starting"
	opStop   operation = "stopping"
	opDelete operation = "being deleted"
)

// verbs are what users call the operations in "cannot … because …".
var verbs = map[operation]string{opCreate: "create", opStart: "start", opStop: "stop", opDelete: "delete"}

// allowed lists the states in which an operation may begin.
var allowed = map[operation][]api.State{
	opStart:  {api.StateCreated, api.StateStopped},
	opStop:   {api.StateRunning, api.StateStarting},
	opDelete: {api.StateCreated, api.StateStopped},
}

// admit says whether op may begin in the given state; the error names both.
func admit(op operation, name string, state api.State) error {
	for _, s := range allowed[op] {
		if s == state {
			return nil
		}
	}
	err := api.Errorf(api.CodeConflict, "cannot %s VM %q: it is %s", verbs[op], name, state)
	if op == opDelete {
		return err.WithHint("stop it first, or use --force")
	}
	return err
}

// describe turns a record and facts into what users see.
func describe(rec Record, f facts) api.VM {
	vm := api.VM{
		ID: rec.ID, Name: rec.Name, State: observe(rec, f),
		Image: rec.Image, Kernel: rec.Kernel, Driver: rec.Driver,
		VCPUs: rec.VCPUs, MemoryMiB: rec.MemoryMiB, DiskBytes: rec.DiskBytes, Nested: rec.Nested,
		IP: rec.IP.String(), MAC: network.MAC(rec.IP),
		Env: rec.Env, Config: rec.ImageConfig, Workspace: rec.Workspace,
		CreatedAt: rec.CreatedAt, StartedAt: rec.StartedAt, Timing: rec.Timing,
	}
	if f.alive && rec.Handle != nil {
		vm.PID, vm.Accel = rec.Handle.PID, rec.Handle.Accel
	}
	if vm.State == api.StateStopped {
		vm.Reason = rec.StopReason
	}
	if vm.State == api.StateStarting && f.operation == opNone {
		vm.Reason = fmt.Sprintf("the guest wasn't seen to finish booting; see banger vm logs %s", rec.Name)
	}
	return vm
}
