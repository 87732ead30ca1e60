package vm

import (
	"fmt"
	"slices"

	"banger/internal/api"
	"banger/internal/network"
	"banger/internal/vmm"
)

// facts is what can be seen of a VM at this moment.
type facts struct {
	alive     bool      // its VMM process exists, and bangerd is connected to it
	held      string    // why its VMM has stopped the guest; "" if it hasn't
	noSpace   bool      // the guest's writes fail, since its VMM doesn't stop it
	unreached string    // why bangerd isn't connected to a VMM that may exist; "" if there is none
	offline   string    // why a VM that runs has no network; "" if it has one
	unbooted  string    // why its guest won't finish booting; "" if it may
	operation operation // what is being done to it, if anything
}

// observe derives the state of a VM. It is the only place that does.
func observe(rec Record, f facts) api.State {
	switch {
	case f.operation == opStop && (f.alive || f.unreached != ""):
		return api.StateStopping
	case rec.broken != nil || f.unreached != "":
		return api.StateUnknown
	case f.alive && rec.Stopping:
		return api.StateStopping
	case f.held != "":
		return api.StatePaused
	case f.alive && rec.Stage == StageReady:
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
	opStop:   {api.StateRunning, api.StateStarting, api.StateStopping},
	opDelete: {api.StateCreated, api.StateStopped},
}

// admit says whether a request may begin; the error names what is asked for and
// the state that forbids it.
func admit(req request, rec Record, f facts) error {
	op, state := req.operation, observe(rec, f)
	switch {
	case slices.Contains(allowed[op], state), op == opDelete && req.force:
		return nil
	case state == api.StateUnknown && op == opStop && req.force && rec.broken == nil:
		return nil
	case state == api.StatePaused && op == opStop && req.force:
		return nil
	case state == api.StatePaused && op == opStop:
		// The guest couldn't be asked, and its last writes would be lost.
		return heldError("cannot stop VM %q: it is paused: %s", rec, f.held)
	case state == api.StateUnknown:
		return unknownError(verbs[op], rec, f)
	}
	err := api.Errorf(api.CodeConflict, "cannot %s VM %q: it is %s", verbs[op], rec.Name, state)
	if op == opDelete {
		return err.WithHint("stop it first, or use --force")
	}
	return err
}

// heldError says why nothing can be done with a guest that its VMM has stopped.
func heldError(format string, rec Record, why string) error {
	return api.Errorf(api.CodeHost, format, rec.Name, why).
		WithHint("free some space and it goes on by itself; banger vm stop --force %s ends it", rec.Name)
}

// unknownError says why something can't be done to a VM in StateUnknown.
func unknownError(verb string, rec Record, f facts) error {
	if rec.broken != nil {
		return api.Errorf(api.CodeConflict, "cannot %s VM %q: %v", verb, rec.Name, rec.broken).
			WithHint("banger vm delete --force %s removes it", rec.Name)
	}
	return api.Errorf(api.CodeConflict, "cannot %s VM %q: bangerd can't reach its VMM: %s", verb, rec.Name, f.unreached).
		WithHint("it is tried again; banger vm stop --force %s ends it, banger vm delete --force %s removes it", rec.Name, rec.Name)
}

// describe turns a record and facts into what users see.
func describe(rec Record, f facts) api.VM {
	vm := api.VM{
		ID: rec.ID, Name: rec.Name, State: observe(rec, f),
		Image: rec.Image, Kernel: rec.Kernel, Driver: rec.Driver,
		Shape: api.Shape(rec.shape), RealRoot: rec.RealRoot,
		Env: rec.Env, Config: rec.ImageConfig, Workspace: rec.Workspace, Copies: rec.Copies, HostPorts: rec.HostPorts,
		CreatedAt: rec.CreatedAt, StartedAt: rec.StartedAt, Timing: rec.Timing,
	}
	if rec.IP.Is4() { // unless the record is damaged
		vm.IP, vm.MAC = rec.IP.String(), network.MAC(rec.IP)
	}
	if (f.alive || f.unreached != "") && rec.Handle != nil {
		vm.PID, vm.Accel = rec.Handle.PID, rec.Handle.Accel
	}
	vm.Reason = whyState(rec, f, vm.State)
	return vm
}

// whyState tells why a VM is in its state where that isn't obvious.
func whyState(rec Record, f facts, state api.State) string {
	switch {
	case state == api.StateUnknown && rec.broken != nil:
		return rec.broken.Error()
	case state == api.StateUnknown:
		return f.unreached
	case state == api.StateStopped:
		return rec.StopReason
	case f.offline != "" && (state == api.StateRunning || state == api.StateStarting):
		return fmt.Sprintf("its network is lost (%s); unless it comes back, banger vm restart %s gives it a new one", f.offline, rec.Name)
	case state == api.StatePaused, state == api.StateStopping && f.held != "":
		return f.held + "; it goes on by itself when there is space again"
	case f.noSpace && state == api.StateRunning:
		return vmm.DiskFull + ": what it writes fails"
	case state == api.StateStarting && f.unbooted != "":
		return fmt.Sprintf("the guest didn't boot to its end: %s; see banger vm logs %s", f.unbooted, rec.Name)
	case state == api.StateStarting && f.operation == opNone:
		return fmt.Sprintf("the guest wasn't seen to finish booting; see banger vm logs %s", rec.Name)
	}
	return ""
}
